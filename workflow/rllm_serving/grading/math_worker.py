"""A process that compares answers with math-verify: JSON lines {"gold", "answer"} in, true or false out.

Run as ``python -P math_worker.py SECONDS``. SymPy can hang inside one C call (9^(9^9)), where no Python
exception arrives. So the kernel holds the time limit: a timer of CPU time (a busy machine changes no verdict)
whose signal ends the process, even if its parent is gone. math-verify's own time-outs, which turn a hang into
"not equal", are off.
"""

from __future__ import annotations

import json
import logging
import os
import re
import resource
import signal
import sys

from math_verify import parse, verify

MEMORY_BYTES = 4 << 30
SUBSCRIPT = re.compile(r"-?\w+?_\{?(\w+)\}?")


def equal(gold: str, answer: str) -> bool:
    """Whether math-verify finds LaTeX `answer` equal to `gold` (not symmetric: the gold sets the form)."""
    # math-verify drops subscripts: 52 in base 8 would be 52 in base 9. An answer without a base is in the gold's.
    bases = [match and match[1] for match in (SUBSCRIPT.fullmatch(latex.replace(" ", "")) for latex in (gold, answer))]
    if None not in bases and bases[0] != bases[1]:
        return False
    parsed = [parse(f"${latex}$", parsing_timeout=None) for latex in (gold, answer)]
    return bool(verify(parsed[0], parsed[1], timeout_seconds=None))


def main() -> None:
    """Say "ready", then answer every line of standard input until it ends."""
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not look like a reply
    print("ready", file=replies, flush=True)
    for line in sys.stdin:
        pair = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, float(sys.argv[1]))
        verdict = equal(pair["gold"], pair["answer"])
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(verdict), file=replies, flush=True)


if __name__ == "__main__":
    main()
