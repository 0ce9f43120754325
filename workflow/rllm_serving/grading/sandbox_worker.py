"""What runs inside the sandbox: `answer` holds a model's code and calls its function, `tests` holds the tests and asks.

Run as ``python -I -S sandbox_worker.py SECONDS answer`` and ``... SECONDS tests ASK HEAR`` (two file descriptors), each
in a sandbox of its own. The code of the answer never shares a process with the tests, so it can neither see nor
change them, nor print or exit its way to a verdict: all that it can do is return values, and only plain data (None,
bool, numbers, text, list, tuple, set, dict) comes through. Standard library only.
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
from collections.abc import Callable
from typing import IO, Any

MEMORY_BYTES = 1 << 30
LONGEST_REPLY = 1 << 20
LONGEST_REASON = 300
ENDED = "the process of the answer has ended"
MISSING = "is missing from the answer"


class AnswerError(Exception):
    """The answer's code raised an error, or returned what is no plain data."""


class EndedError(Exception):
    """The answer's process has ended."""


def limit(seconds: int) -> None:
    """Take away CPU time, memory, files and core dumps: what is lowered here cannot be raised again.

    New processes and threads are not counted but forbidden, by the sandbox's filter of system calls.
    """
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    for kind, most in ((resource.RLIMIT_AS, MEMORY_BYTES), (resource.RLIMIT_NOFILE, 64)):
        resource.setrlimit(kind, (most, most))
    for kind in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):  # pipes are no files
        resource.setrlimit(kind, (0, 0))


def plain(value: Any) -> Any:
    """Data as JSON that keeps Python's types: a tuple (7,) is {"tuple": [7]}. Raises AnswerError for anything else."""
    if value is None or isinstance(value, bool):
        return value
    for simple in (str, int, float):
        if isinstance(value, simple):
            return simple(value)
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, dict):
        return {"dict": [[plain(key), plain(item)] for key, item in value.items()]}
    for kind in (list, tuple, set, frozenset):
        if isinstance(value, kind):
            return {kind.__name__: [plain(item) for item in value]}
    raise AnswerError(f"returned a {type(value).__name__}, which is no plain data")


def data(coded: Any) -> Any:
    """The value that `plain` made `coded` from."""
    if not isinstance(coded, dict):
        return coded
    ((kind, items),) = coded.items()
    if kind == "complex":
        return complex(*items)
    if kind == "dict":
        return {data(key): data(item) for key, item in items}
    return {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}[kind](map(data, items))


def _own_channels() -> tuple[IO[str], IO[str]]:
    """Return private copies of stdin and stdout, then point fds 0 and 1 at /dev/null."""
    coming, going = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 0)
    os.dup2(2, 1)
    return coming, going


def _say(channel: IO[str], what: Any) -> None:
    print(json.dumps(what), file=channel, flush=True)


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:LONGEST_REASON]


def _execute(code: str, name: str, namespace: dict[str, Any]) -> None:
    exec(compile(code, name, "exec", dont_inherit=True), namespace)


def entry_point(tests: str) -> str | None:
    """Return the function that tests ask for, whose last line is ``check(NAME)``; None without such a line."""
    match = re.search(r"check\((\w+)\)\s*\Z", tests)
    return match[1] if match else None


def parts(question: str, code: str) -> list[str]:
    """Texts to run one after the other.

    They are the question, which is a function without a body, and a whole function of that name; or both as one text,
    where the code is only the body.
    """
    try:
        compile(code, "answer", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return [f"{question}\n{code}\n"]
    return [question, code]


def answer() -> None:
    """Run the code that comes in the first line, then call its function once a line, until standard input ends."""
    coming, going = _own_channels()
    _say(going, "hello")
    job = json.loads(coming.readline())
    namespace: dict[str, Any] = {"__name__": "answer"}
    try:
        for part in parts(job["question"], job["code"]):
            asked = namespace.get(job["name"])
            _execute(part, "answer", namespace)
        function = namespace.get(job["name"])
    except BaseException as error:
        return _say(going, {"error": _describe(error)})
    if function is None or function is asked:
        return _say(going, {"error": f"the function {job['name']} {MISSING}"})
    _say(going, {"value": None})
    for line in coming:
        try:
            reply = {"value": plain(function(*data(json.loads(line))))}
        except BaseException as error:
            reply = {"error": _describe(error)}
        _say(going, reply)
    return None


def tests(ask: int, hear: int) -> None:
    """Run the tests of the job that comes on standard input, asking the answer; the verdict is the one line printed.

    The job has question, code and tests. The verdict is {"reason": ...}: "" where all passed, or what failed; ENDED:
    the answer's process died; null: it never began, so the sandbox is at fault.
    """
    coming, going = _own_channels()
    asking, hearing = os.fdopen(ask, "w", encoding="utf-8"), os.fdopen(hear, encoding="utf-8")
    job = json.loads(coming.readline())
    if not hearing.readline():
        return _say(going, {"reason": None})

    def exchange(what: Any) -> Any:
        try:
            _say(asking, what)
        except BrokenPipeError:
            raise EndedError from None
        line = hearing.readline(LONGEST_REPLY)
        if not line:
            raise EndedError
        if not line.endswith("\n"):
            raise AnswerError(f"returned more than {LONGEST_REPLY} bytes")
        reply = json.loads(line)
        if "error" in reply:
            raise AnswerError(reply["error"])
        return data(reply["value"])

    try:
        _run(job, exchange)
    except EndedError:
        return _say(going, {"reason": ENDED})
    except BaseException as error:
        return _say(going, {"reason": _describe(error)})
    return _say(going, {"reason": ""})


def _run(job: dict[str, str], exchange: Callable[[Any], Any]) -> None:
    """The question's helpers and the tests run here; the function that was asked for, in the answer's process."""
    name = entry_point(job["tests"]) or ""
    exchange({"question": job["question"], "code": job["code"], "name": name})
    namespace: dict[str, Any] = {"__name__": "tests"}
    _execute(job["question"], "question", namespace)
    namespace[name] = lambda *arguments: exchange(plain(arguments))
    _execute(job["tests"], "tests", namespace)


if __name__ == "__main__":
    limit(int(sys.argv[1]))
    if sys.argv[2] == "answer":
        answer()
    else:
        tests(int(sys.argv[3]), int(sys.argv[4]))
