"""The sandbox for code: right and wrong solutions, ones that cheat, and ones that would do harm outside of it."""

from __future__ import annotations

import http.server
import threading
from pathlib import Path

import psutil
import pytest
from helpers.mock_server import eventually
from helpers.needs import needs
from rllm_serving.grading import sandbox
from rllm_serving.grading.sandbox import ExecutionResult, SandboxError, check
from rllm_serving.grading.sandbox_worker import data, parts, plain

FAULT = sandbox.unavailable_reason()
needs_sandbox = needs(FAULT)

QUESTION = '''from typing import List


def shift(n: int) -> int:
    """A helper of the question."""
    return n + 1


def total(numbers: List[int], more: int = 0) -> int:
    """The sum of the numbers, each shifted, and more."""'''
TESTS = """METADATA = {}


def check(candidate):
    assert candidate([]) == 0
    assert candidate([1, 2]) == shift(1) + shift(2)
    assert total([1], 5) == 7, "more is added"


check(total)"""
RIGHT = "def total(numbers, more=0):\n    return sum(map(shift, numbers)) + more\n"


def run(code: str, timeout_s: float = 5, question: str = QUESTION, tests: str = TESTS) -> ExecutionResult:
    return check(question, code, tests, timeout_s)


def returning(expression: str, imports: str = "") -> ExecutionResult:
    """The outcome of a function that returns the value of an expression, in the reason of a test that shows it."""
    tests = "def check(f):\n    raise ValueError(repr(f()))\n\ncheck(f)"
    code = f"{imports}\ndef f():\n    return {expression}\n"
    return check('def f():\n    """Show."""', code, tests, 5)


def shown(expression: str, imports: str = "") -> str:
    """What a function inside the sandbox saw."""
    reason = returning(expression, imports).reason
    assert reason.startswith("ValueError: "), reason
    return reason.removeprefix("ValueError: ")


@needs_sandbox
@pytest.mark.parametrize(
    "code",
    [
        RIGHT,
        "    return sum(map(shift, numbers)) + more",
        f"from __future__ import annotations\n{RIGHT}",
        f"{RIGHT}\nprint('x' * 10**7)\n\nif __name__ == '__main__':\n    raise SystemExit(1)\n",
        "from collections import Counter\n\n\ndef total(numbers, more=0):\n"
        "    class N(int): pass\n    return N(sum(Counter(numbers).elements()) + len(numbers) + more)\n",
    ],
    ids=["function", "body", "future", "prints", "subclass"],
)
def test_right_code_passes(code: str) -> None:
    assert run(code) == ExecutionResult(True, "tests", "")


@needs_sandbox
@pytest.mark.parametrize(
    ("code", "how", "reason"),
    [
        ("def total(numbers, more=0):\n    return sum(numbers)", "tests", "AssertionError"),
        ("def total(numbers, more=0):\n    return sum(map(shift, numbers))", "tests", "more is added"),
        ("def total(numbers, more=0):\n    return undefined", "tests", "NameError"),
        ("def total(numbers, more=0)\n    return 0", "tests", "SyntaxError"),
        ("def other():\n    return 0", "tests-missing", "the function total is missing"),
        ("x = 1", "tests-missing", "the function total is missing"),
        ("def total(numbers, more=0):\n    return (n for n in numbers)", "tests", "generator"),
        ("def total(numbers, more=0):\n    return 'x' * 2**21", "tests", "returned more than"),
        ("def total(numbers, more=0):\n    return bytearray(10**10)", "tests", "MemoryError"),
        ("import numpy", "tests", "ModuleNotFoundError"),
        ("\ud800", "tests", "Error"),
        # Which of its two limits ends it depends on how busy the machine is.
        ("while True: pass", "tests-timeout", ""),
        (
            "import signal\nsignal.signal(signal.SIGXCPU, lambda *_: None)\nwhile True: pass",
            "tests-timeout",
            "",
        ),
        ("import time\ntime.sleep(1000)", "tests-timeout", "no verdict within 6 s"),
        ("import ctypes\nctypes.string_at(0)", "tests-crash", "exit code 139"),
    ],
)
def test_wrong_code_fails_with_its_reason(code: str, how: str, reason: str) -> None:
    outcome = run(code, timeout_s=1)
    assert (outcome.passed, outcome.grader) == (False, how), outcome
    assert reason in outcome.reason and len(outcome.reason) < 400


CHEATS = {
    "exit": "import os\nos._exit(0)",
    "exit when called": "import os\ndef total(*_):\n    os._exit(0)",
    "raise SystemExit": "raise SystemExit(0)",
    "print a verdict": """print('{"reason": ""}', flush=True)\nraise SystemExit(0)""",
    "write a verdict everywhere": 'import os\nfor n in range(64):\n    try: os.write(n, b\'{"reason": ""}\\n\')\n'
    "    except OSError: pass\nos._exit(0)",
    "equal to everything": "class Same(int):\n    def __eq__(self, _): return True\n"
    "    __hash__ = int.__hash__\ndef total(*_):\n    return Same()",
    "object equal to everything": "class Same:\n    def __eq__(self, _): return True\n\n"
    "def total(*_):\n    return Same()",
    "other helper": "def shift(n):\n    return 0\ndef total(numbers, more=0):\n    return more + 2 if more else 0",
    "other builtins": "import builtins\nbuiltins.AssertionError = None\nbuiltins.sum = builtins.len = lambda *_: 0\n"
    "def check(_): pass\ndef total(*_):\n    return 0",
}


@needs_sandbox
@pytest.mark.parametrize("code", CHEATS.values(), ids=CHEATS.keys())
def test_code_that_cheats_does_not_pass(code: str) -> None:
    assert not run(code).passed


@needs_sandbox
def test_there_is_no_network() -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        reason = returning(f"socket.create_connection(('127.0.0.1', {server.server_port}), 2)", "import socket").reason
        server.shutdown()
    assert "OSError" in reason or "ConnectionRefusedError" in reason, reason
    assert shown("[name for _, name in socket.if_nameindex()]", "import socket") in ("[]", "['lo']")


@needs_sandbox
def test_nothing_can_be_written_and_nothing_of_the_user_is_there(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    trying = (
        "def f():\n    found = []\n"
        f"    for path in ['/tmp/x', '/x', '/dev/shm/x', '/usr/x', '/worker.py', {str(tmp_path / 'out')!r}]:\n"
        "        try:\n            open(path, 'w')\n            found.append(path)\n"
        "        except OSError: pass\n    return found\n"
    )
    tests = "def check(f):\n    raise ValueError(repr(f()))\n\ncheck(f)"
    assert check('def f():\n    """Try."""', trying, tests, 5).reason == "ValueError: []"
    assert not (tmp_path / "out").exists()
    assert shown(f"os.path.exists({str(tmp_path)!r})", "import os") == "False"
    assert shown("os.path.exists('/proc/self')", "import os") == "False"
    with pytest.raises(AssertionError, match="Error"):
        shown("os.memfd_create('x')", "import os")


@needs_sandbox
def test_the_environment_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_verysecret")
    # Python itself sets the last.
    assert shown("sorted(set(os.environ) - {'PWD', 'LC_CTYPE'})", "import os") == "[]"
    assert shown("os.getuid()", "import os") == "65534"


@needs_sandbox
@pytest.mark.parametrize(
    "expression",
    [
        "os.fork()",
        "threading.Thread(target=print).start()",
        "subprocess.run(['/usr/bin/env'])",
        "os.posix_spawn('/usr/bin/env', ['env'], {})",
    ],
)
def test_no_process_and_no_thread_can_be_started(expression: str) -> None:
    outcome = returning(expression, "import os, subprocess, threading")
    assert not outcome.passed and "ValueError" not in outcome.reason, outcome


@needs_sandbox
def test_nothing_runs_on_after_a_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "WALL_FACTOR", 0.01)
    assert run("import time\ntime.sleep(1000)", timeout_s=97).grader == "tests-timeout"

    def left() -> list[list[str]]:
        found = (process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"]))
        return [command for command in found if "/worker.py" in command and "97" in command]

    assert eventually(lambda: not left(), 10), left()


def test_without_bubblewrap_nothing_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert "bubblewrap (bwrap) is not installed; install it" in (sandbox.unavailable_reason() or "")
    with pytest.raises(SandboxError, match="not installed"):
        run(RIGHT)


def test_a_bubblewrap_that_may_not_make_namespaces_is_told_in_its_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    refusing = tmp_path / "bwrap"
    refusing.write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n")
    refusing.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    fault = sandbox.unavailable_reason() or ""
    assert "setting up uid map: Permission denied" in fault and "user namespaces must be permitted" in fault
    # A sandbox that does not start is no verdict on the answer.
    with pytest.raises(SandboxError, match="did not start"):
        run(RIGHT)


@pytest.mark.parametrize(
    "value",
    [None, True, 0, 2**100, -1.5, float("inf"), 1j, "\ud800é", [1, (2, [3])], (), {1: {2, 3}, (4,): frozenset("a")}],
)
def test_plain_data_comes_through_as_it_is(value: object) -> None:
    back = data(plain(value))
    assert back == value and type(back) is type(value)


def test_a_function_alone_replaces_the_question_and_a_body_completes_it() -> None:
    assert parts("head", "x = 1") == ["head", "x = 1"]
    assert parts("def f():\n    'doc'", "    return 1") == ["def f():\n    'doc'\n    return 1\n"]
