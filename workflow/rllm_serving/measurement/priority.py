"""The client goes first where client and server share cores: a stamp must not wait until a server has computed.

An engine's processes wait for each other by spinning with sched_yield. The Linux scheduler lets a task that is ready
wait behind such spinning for tenths of seconds (on two cores, kernel 6.18, vLLM: up to 2 s), which looks like a slow
server. A client that sleeps nearly always can have real-time priority at no one's cost; see docs/measurement.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

SERVER_NICENESS = 10
"""Of the server's processes where real-time priority is not allowed: less sure, but anyone may lower a priority."""


@contextmanager
def realtime_priority() -> Iterator[bool]:
    """Real-time priority for this thread, and for threads that it starts, while the context is open.

    Yields whether the system allows it (root, CAP_SYS_NICE or RLIMIT_RTPRIO); where not, nothing is changed.
    """
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    lowest = os.sched_param(os.sched_get_priority_min(os.SCHED_RR))
    try:
        os.sched_setscheduler(0, os.SCHED_RR, lowest)
    except PermissionError:
        yield False
        return
    try:
        yield True
    finally:
        os.sched_setscheduler(0, *before)


def server_niceness() -> int:
    """By how much a server's priority has to be lowered on this machine: 0 where the client can raise its own."""
    with realtime_priority() as allowed:
        return 0 if allowed else SERVER_NICENESS
