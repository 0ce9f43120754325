"""Supervisor: starts a program and kills its process tree when the job or the workflow exits.

``python supervisor.py --watch PID[,PID...] -- COMMAND...`` starts COMMAND in a session of its own and ends it, with
all its descendants, when standard input closes (the job ended or was killed), when a watched process is gone (the
workflow was killed, though the job may live on), or when it gets SIGTERM, SIGINT or SIGHUP. It prints the program's
process id as its first line and exits with the program's exit code. Files that it inherits open, the locks of GPUs,
stay open until it ends; the program does not get them. With ``--inherit`` the program has the supervisor's own standard
streams, for one that is read from and runs to its end: no id is printed, and input that closes ends nothing. Standard
library and psutil only.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time

import psutil

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
POLL_S = 0.25
GRACE_S = 15.0


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl failed")


def alive(process: psutil.Process | int) -> bool:
    """Whether a process runs; not a zombie, nor another process with the same id (psutil compares start times)."""
    try:
        process = psutil.Process(process) if isinstance(process, int) else process
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def end(server: subprocess.Popen[bytes], grace_s: float = GRACE_S) -> None:
    """Ask the server's first process to stop, wait `grace_s`, then kill its group and all remaining descendants.

    Only the first process gets SIGTERM: an engine whose workers get it too logs their death as an error. Descendants
    in other sessions are found too, because this process is their subreaper.
    """
    if server.poll() is None:
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(grace_s)
    deadline = time.monotonic() + 5.0
    while True:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(server.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(1.0)  # before psutil waits for it, which would consume its exit code
        descendants = psutil.Process().children(recursive=True)
        for process in descendants:
            with contextlib.suppress(psutil.Error):
                process.kill()
        _, alive_still = psutil.wait_procs(descendants, timeout=1.0)
        if not alive_still or time.monotonic() > deadline:
            return


def serve(
    command: list[str],
    watched: list[psutil.Process],
    grace_s: float = GRACE_S,
    niceness: int = 0,
    inherit: bool = False,
) -> int:
    """Run `command` until it ends or has to be ended; returns its exit code (negative: the signal that ended it)."""
    stop = False

    def on_signal(number: int, frame: object) -> None:
        nonlocal stop
        stop = True

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, on_signal)
    _prctl(PR_SET_CHILD_SUBREAPER, 1)

    def in_server() -> None:
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # it dies with its supervisor
        os.nice(niceness)

    streams = (None, None) if inherit else (subprocess.DEVNULL, sys.stderr)
    server = subprocess.Popen(
        command, stdin=streams[0], stdout=streams[1], start_new_session=True, preexec_fn=in_server
    )
    if not inherit:
        print(server.pid, flush=True)
    while server.poll() is None and not stop:
        closed = _has_ended(server) if inherit else _input_closes()
        stop = stop or closed or not all(alive(process) for process in watched)
    end(server, grace_s)
    return server.returncode


def _has_ended(server: subprocess.Popen[bytes]) -> bool:
    """Wait for a moment; returns whether a process ended."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.wait(POLL_S)
    return server.returncode is not None


def _input_closes() -> bool:
    """Wait for a moment; returns whether standard input was closed."""
    ready, _, _ = select.select([sys.stdin], [], [], POLL_S)
    return bool(ready) and not os.read(sys.stdin.fileno(), 4096)


def main() -> int:
    """Read the command line and serve; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--watch", default="", help="process ids, comma separated")
    parser.add_argument("--grace", type=float, default=GRACE_S, help="seconds between SIGTERM and SIGKILL")
    parser.add_argument("--nice", type=int, default=0, help="by how much the server's priority is lowered")
    parser.add_argument("--inherit", action="store_true", help="standard streams are the program's own")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    try:
        watched = [psutil.Process(int(pid)) for pid in arguments.watch.split(",") if pid]
    except psutil.NoSuchProcess:
        return 1
    try:
        code = serve(arguments.command[1:], watched, arguments.grace, arguments.nice, arguments.inherit)
    except OSError as error:
        print(f"cannot start {arguments.command[1]}: {error.strerror}", file=sys.stderr)
        return 127
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
