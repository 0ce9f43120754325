"""Model-written code run against its tests where it can do no harm: bubblewrap, without network, files or secrets.

Each answer has two sandboxes, one for its code and one for the tests (see `sandbox_worker`). Both see the Python
standard library and the system's libraries, read-only, and nothing else: no network, no other process, no environment
variable, nothing that can be written. CPU time and memory are limited; processes and threads can't be started. What is
left to trust is the kernel: this is a wall against careless and cheating answers, not against one that knows a hole in
Linux.
"""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
import struct
import subprocess
import sys
from contextlib import ExitStack
from typing import NamedTuple

from . import sandbox_worker

WALL_FACTOR = 6
"""Wall time that a verdict may take, as a multiple of its CPU time: a busy machine must not turn it into a miss."""
OUT_OF_TIME = (128 + 24, 128 + 9)
"""Exit codes of bubblewrap after SIGXCPU and, for code that ignores that, SIGKILL."""
NULL, PIPE = subprocess.DEVNULL, subprocess.PIPE
Process = subprocess.Popen[bytes]

# Linux on x86-64: new processes and threads, memory that a process's limit does not count, and calls that open much
# of the kernel.
ARCHITECTURE = 0xC000003E
REFUSED = {"clone": 56, "fork": 57, "vfork": 58, "clone3": 435, "shmget": 29, "memfd_create": 319}
REFUSED |= {"unshare": 272, "setns": 308, "ptrace": 101, "bpf": 321, "userfaultfd": 323, "io_uring_setup": 425}


class SandboxError(RuntimeError):
    """The sandbox itself failed, so nothing is known about the answer."""


class ExecutionResult(NamedTuple):
    """Whether an answer passed; grader: "tests", "tests-missing", "-timeout", "-crash"; reason: what failed, or ""."""

    passed: bool
    grader: str
    reason: str


def _filter() -> bytes:
    """The filter of system calls, as classic BPF: REFUSED fail with EPERM, calls of other architectures are the end."""
    load, equal, at_least, back = 0x20, 0x15, 0x35, 0x06
    allow, refuse, kill = 0x7FFF0000, 0x00050001, 0x80000000
    numbers = list(REFUSED.values())
    program = [(load, 0, 0, 4), (equal, 1, 0, ARCHITECTURE), (back, 0, 0, kill), (load, 0, 0, 0)]
    program.append((at_least, len(numbers) + 1, 0, 0x40000000))  # x32: second names of the same calls
    program += [(equal, len(numbers) - place, 0, number) for place, number in enumerate(numbers)]
    program += [(back, 0, 0, allow), (back, 0, 0, refuse)]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def _start(
    *arguments: str, stdin: int = NULL, stdout: int = NULL, stderr: int = NULL, keep: tuple[int, ...] = ()
) -> Process:
    """A Python in a sandbox of its own, with these arguments and file descriptors, `keep` beside the usual three."""
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise SandboxError("bubblewrap (bwrap) is not installed")
    # Of a virtual environment, the Python that it was made from: the packages stay outside.
    python = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    visible = ["/usr", "/lib", "/lib64", "/etc/ld.so.cache", os.path.realpath(sys.base_prefix)]
    command = [bwrap, "--unshare-all", "--unshare-user", "--uid", "65534", "--gid", "65534", "--cap-drop", "ALL"]
    command += ["--die-with-parent", "--new-session"]
    for path in filter(os.path.exists, visible):
        command += ["--ro-bind", path, path]
    command += ["--ro-bind", sandbox_worker.__file__, "/worker.py", "--remount-ro", "/", "--chdir", "/"]
    rules, feed = os.pipe()
    try:
        with os.fdopen(feed, "wb") as pipe:
            pipe.write(_filter())
        command += ["--seccomp", str(rules), python, "-I", "-S", "-B", "-X", "utf8", *arguments]
        return Process(command, stdin=stdin, stdout=stdout, stderr=stderr, pass_fds=(rules, *keep), env={})
    finally:
        os.close(rules)


def unavailable_reason() -> str | None:
    """Why code can't be run on this machine, with what to do about it; None where it can."""
    if platform.machine() != "x86_64":
        return "the sandbox for code needs Linux on x86-64"
    try:
        process = _start("-c", "pass", stderr=PIPE)
    except SandboxError as error:
        return f"{error}; install it (Debian, Ubuntu: apt install bubblewrap)"
    _, said = process.communicate()
    if process.returncode == 0:
        return None
    last = (said.decode(errors="replace").strip().splitlines() or [f"exit code {process.returncode}"])[-1]
    return f"bubblewrap can make no sandbox here ({last}); unprivileged user namespaces must be permitted"


def check(question: str, code: str, tests: str, timeout_s: float) -> ExecutionResult:
    """Run the tests of a question against the code of an answer.

    question: Python that ends in the head of a function, with a docstring for a body; code: that function, or its
    body; tests: Python whose last line is ``check(NAME)``, NAME the function. timeout_s: s of CPU time for the answer,
    and as many for the tests. Raises SandboxError when it was the sandbox that failed.
    """
    worker = ("/worker.py", str(math.ceil(timeout_s)))
    job = json.dumps({"question": question, "code": code, "tests": tests}) + "\n"
    with ExitStack() as stack:
        with ExitStack() as ends:
            (answer_in, tests_out), (tests_in, answer_out) = os.pipe(), os.pipe()
            for end in (answer_in, tests_out, tests_in, answer_out):
                ends.callback(os.close, end)
            answer = stack.enter_context(_start(*worker, "answer", stdin=answer_in, stdout=answer_out))
            stack.callback(answer.kill)
            roles = (*worker, "tests", str(tests_out), str(tests_in))
            tester = stack.enter_context(_start(*roles, stdin=PIPE, stdout=PIPE, keep=(tests_out, tests_in)))
            stack.callback(tester.kill)
        return _result(answer, tester, job.encode(), WALL_FACTOR * timeout_s)


def _result(answer: Process, tester: Process, job: bytes, wall_s: float) -> ExecutionResult:
    try:
        said, _ = tester.communicate(job, timeout=wall_s)
    except subprocess.TimeoutExpired:
        return ExecutionResult(False, "tests-timeout", f"no verdict within {wall_s:g} s")
    if tester.returncode in OUT_OF_TIME:
        return ExecutionResult(False, "tests-timeout", "the tests were out of CPU time")
    reason = json.loads(said)["reason"] if said else None
    if reason is None:
        raise SandboxError("the sandbox of an answer did not start; is the machine out of memory or of processes?")
    if reason != sandbox_worker.ENDED:
        missing = reason.endswith(sandbox_worker.MISSING)
        return ExecutionResult(not reason, "tests-missing" if missing else "tests", reason)
    code = answer.wait()
    if code in OUT_OF_TIME:
        return ExecutionResult(False, "tests-timeout", "out of CPU time")
    return ExecutionResult(False, "tests-crash", f"ended with exit code {code}")
