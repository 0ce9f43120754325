r"""A process that compares answers: JSON lines {"gold", "answer"} in, true, false or null (not comparable) out.

Run as ``python -P math_worker.py SECONDS``, the library on PYTHONPATH. SymPy can hang in one C call (9^(9^9)), where
no Python exception arrives. So the kernel holds the time limit: a timer of CPU time (a busy machine changes no
verdict) whose signal ends the process, even if its parent is gone. math-verify's own time-outs, which turn a hang into
"not equal", are off.

Of math-verify come the parser and the comparison of what it read. Not its search for numbers in a text: that would find
4 in a "4\sqrt{2" which could not be read. And not its comparison of numbers, which rounds to six decimals only, so that
0.0000672 is 0.0000673, and takes 1/2^99 and 1/2^98 both for 0.
"""

from __future__ import annotations

import json
import logging
import os
import re
import resource
import signal
import sys
from decimal import Decimal
from typing import Any

import math_verify.grader
import sympy
from latex2sympy2_extended import convert_to_pct, latex2sympy
from math_verify import verify

from rllm_serving.grading.comparison import same_decimals, settle

MEMORY_BYTES = 4 << 30
_PART_ONLY = re.compile(r"\\[lcd]?dots[a-z]?(?![a-z])|\.\.|[0-9]\s+[0-9.]")
"""What the parser reads wrongly: dots are dropped, numbers side by side added."""
_RELATION = re.compile(r"[<>,;]|\\(?:l|g)(?:e|t|eq)(?![a-z])|\\(?:ne|neq|in|approx|equiv|leqslant|geqslant)(?![a-z])")
_FACTOR = re.compile(r"\\[A-Za-z]+|((?<![_^0-9.])[0-9.]+|(?<![_^])[abcekl-orstxz])\s*\(")
"""A number or a letter before a bracket: 2(3) is no mixed number, n(n+1) no function; the names of functions stay."""
DIGITS = 40
EXACT = sympy.Rational(1, 10**25)
NOISE = sympy.Rational(1, 10**12)


class UnreadableError(Exception):
    """LaTeX that cannot be read, or only in part."""


def equal(gold: str, answer: str) -> bool | None:
    """Return whether `answer` is equal to `gold`, or None if one of them cannot be read (the gold sets the form)."""
    sides = settle(gold, answer)
    if isinstance(sides, bool):
        return sides
    real = not any(map(math_verify.grader.should_treat_as_complex, sides))
    try:
        parsed = [read(side, real) for side in sides]
        return bool(verify(parsed[0], parsed[1], timeout_seconds=None, raise_on_error=True))
    except Exception:  # the parser's and SymPy's errors have no common base
        return None


def read(latex: str, real: bool = True) -> Any:
    """Return the SymPy object that normalized LaTeX says; of an equation that cannot be read, what stands behind "=".

    real: whether variables are real numbers. Raises UnreadableError or an error of the parser.
    """
    if _PART_ONLY.search(latex):
        raise UnreadableError(latex)
    if turned := re.fullmatch(r"([^=A-Za-z]+)=\s*([A-Za-z])", latex):
        latex = f"{turned[2]} = {turned[1]}"  # of an equation the right side is the value
    latex = _FACTOR.sub(lambda factor: rf"{factor[1]} \cdot (" if factor[1] else factor[0], latex)
    latex = re.sub(r"\)\s*(?=[(0-9]|\\frac|\\sqrt)", r") \\cdot ", latex)
    percent = re.fullmatch(r"(.*[^0-9.\s])\s*\\%", latex)
    latex = re.sub(r",\s*", ", ", percent[1] if percent else latex)  # the parser takes 100,200 for a number
    try:
        found = _parse(latex, real)
    except Exception:
        if "=" not in latex or _RELATION.search(latex):
            raise
        found = _parse(latex.rpartition("=")[2], real)
    if not isinstance(found, (sympy.Basic, sympy.MatrixBase)):
        raise UnreadableError(latex)
    return convert_to_pct(found) if percent else found


def _parse(latex: str, real: bool) -> Any:
    return latex2sympy(latex, is_real=real, convert_degrees=False, normalization_config=None)


def same_numbers(gold: Any, answer: Any, float_rounding: int, numeric_precision: int) -> bool:
    """Return whether two expressions or matrices are the same number; in math-verify's place, with its arguments.

    Exact numbers must be equal; of decimals see `same_decimals`. 50% is 50 and 1/2. Of expressions with variables the
    difference must vanish by itself.
    """
    if isinstance(gold, sympy.MatrixBase) or isinstance(answer, sympy.MatrixBase):
        sides = [getattr(side, "doit", lambda side=side: side)() for side in (gold, answer)]
        if getattr(sides[0], "shape", None) != getattr(sides[1], "shape", None):
            return False
        pairs = zip(sides[0].flat(), sides[1].flat(), strict=True)
        return all(same_numbers(a, b, float_rounding, numeric_precision) for a, b in pairs)
    percents = [math_verify.grader.get_pct_val(side) for side in (gold, answer)]
    sides = [math_verify.grader.safe_sympy_doit(side) for side in (gold, answer)]
    if (percents[0] is None) != (percents[1] is None):
        bare = [side if percent is None else percent for side, percent in zip(sides, percents, strict=True)]
        if _same_number(*bare):
            return True
    return _same_number(*sides)


def _same_number(gold: Any, answer: Any) -> bool:
    if gold == answer:
        return True
    inexact = any(getattr(side, "has", lambda _: False)(sympy.Float) for side in (gold, answer))
    try:
        difference = gold - answer
        if difference.free_symbols:
            return bool(difference.evalf(chop=inexact) == 0)
        if not (gold.is_finite and answer.is_finite):
            return False
        if gold.is_Rational and answer.is_Rational:
            return False
        values = [sympy.N(side, DIGITS).as_real_imag() for side in (gold, answer)]
        scale = max(abs(part) for value in values for part in value)
        near = (NOISE if inexact else EXACT) * scale
        return all(abs(a - b) <= near or (inexact and _rounded(a, b)) for a, b in zip(*values, strict=True))
    except Exception:  # what SymPy cannot evaluate is not equal here; math-verify goes on to simplify it
        return False


def _rounded(gold: Any, answer: Any) -> bool:
    return same_decimals(Decimal(str(sympy.N(gold, 20))), Decimal(str(sympy.N(answer, 20))))


def main() -> None:
    """Say "ready", then answer every line of standard input until it ends."""
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    math_verify.grader.sympy_numeric_eq = same_numbers
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
