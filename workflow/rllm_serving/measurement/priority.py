"""Real-time priority for the client, so that its time stamps do not wait for a server on the same cores.

An engine's processes wait for each other by spinning with sched_yield. The Linux scheduler can let a ready task wait
behind such spinning for tenths of seconds (two cores, kernel 6.18, vLLM: up to 2 s), which looks like a slow server.
The client sleeps nearly always, so its priority costs the server nothing; see docs/measurement.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

SERVER_NICENESS = 10
"""For the server where the client may not have real-time priority: less effective, but needs no rights."""


@contextmanager
def realtime_priority() -> Iterator[bool]:
    """Give this thread, and threads that it starts, real-time priority while the context is open.

    Yields:
        Whether the system allows it (root, CAP_SYS_NICE or RLIMIT_RTPRIO); if not, nothing is changed.
    """
    previous = os.sched_getscheduler(0), os.sched_getparam(0)
    lowest = os.sched_param(os.sched_get_priority_min(os.SCHED_RR))
    try:
        os.sched_setscheduler(0, os.SCHED_RR, lowest)
    except PermissionError:
        yield False
        return
    try:
        yield True
    finally:
        os.sched_setscheduler(0, *previous)


def server_niceness() -> int:
    """By how much to lower the server's priority on this machine: 0 where the client can raise its own."""
    with realtime_priority() as allowed:
        return 0 if allowed else SERVER_NICENESS
