"""Jobs and what they start end with the workflow, however it ends: also when it is killed and can clean up nothing."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from . import supervisor

GRACE_S = 10.0
"""Between asking a job to end and killing it."""

log = logging.getLogger("rllm_serving.lifetime")


def workflow_ancestors() -> list[int]:
    """List the processes whose death must end what this one starts: it and its ancestors up to the outermost Snakemake.

    Ancestors beyond that (a shell, a terminal) may go away without harm.
    """
    chain = [psutil.Process()]
    workflow = 0
    for process in psutil.Process().parents():
        chain.append(process)
        try:
            arguments = process.cmdline()
        except psutil.Error:
            break
        if any(Path(argument).name.startswith("snakemake") for argument in arguments[:4]):
            workflow = len(chain) - 1
    return [process.pid for process in chain[: workflow + 1]]


@contextmanager
def supervised(command: Sequence[str], grace_s: float = GRACE_S, **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A program that ends with this process and with the workflow, and all that it starts with it.

    Its streams are those of `options`. Files of `pass_fds` stay open until all of that is gone; the program does not
    get them. When the context is left by an exception the program is ended first.

    Args:
        command: the program and its arguments.
        grace_s: seconds between asking it to end and killing it.
        options: as of subprocess.Popen; its exit code is that of the program, or 128 + the signal that ended it.
    """
    watch = ",".join(map(str, workflow_ancestors()))
    arguments = ["--watch", watch, "--grace", str(grace_s), "--inherit"]
    with subprocess.Popen([sys.executable, supervisor.__file__, *arguments, "--", *command], **options) as process:
        try:
            yield process
        except BaseException:
            # Not killed: it would leave behind what the program has started.
            process.terminate()
            raise


@contextmanager
def ends_with_workflow() -> Iterator[None]:
    """End this process when any of its ancestors up to the outermost Snakemake is gone, until the context is left."""
    ancestors = workflow_ancestors()[1:]
    if not ancestors:
        yield
        return
    stop, stopping = os.pipe()
    watch = threading.Thread(target=_watch, args=(ancestors, stop), name="lifetime", daemon=True)
    watch.start()
    try:
        yield
    finally:
        os.write(stopping, b".")
        watch.join()
        os.close(stop)
        os.close(stopping)


def _watch(pids: Sequence[int], stop: int) -> None:
    """Wait until a process is gone and end this one; returns when `stop` can be read."""
    processes = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    poll = select.poll()
    poll.register(stop, select.POLLIN)
    with contextlib.ExitStack() as opened:
        timeout_ms: float | None = None  # nothing is looked at again and again beside a measurement
        try:
            for process in processes:
                descriptor = os.pidfd_open(process.pid)
                opened.callback(os.close, descriptor)
                poll.register(descriptor, select.POLLIN)
        except OSError:  # a kernel or a sandbox without it
            timeout_ms = 1000 * supervisor.POLL_S
        while len(processes) == len(pids) and all(map(supervisor.alive, processes)):
            if any(descriptor == stop for descriptor, _ in poll.poll(timeout_ms)):
                return
    log.error("the workflow is gone: this job ends with it")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os.kill(os.getpid(), signal.SIGKILL)
