"""Priorities: real-time for the client where it is allowed, a lower one for the server where not."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from rllm_serving.measurement import priority

WORKFLOW = Path(priority.__file__).parents[2]
# As a user without rights: what is left of them (root's, or a limit) is given up first.
UNPRIVILEGED = """
import os, resource, sys
sys.path.insert(0, sys.argv[1])
from rllm_serving.measurement import priority
resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
if os.geteuid() == 0:
    os.setuid(65534)
with priority.realtime_priority() as allowed:
    print(allowed, os.sched_getscheduler(0), priority.server_niceness())
"""


def allowed() -> bool:
    with priority.realtime_priority() as is_allowed:
        return is_allowed


def test_without_rights_nothing_changes_and_the_server_steps_back() -> None:
    command = [sys.executable, "-c", UNPRIVILEGED, str(WORKFLOW)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert printed == ["False", str(os.sched_getscheduler(0)), str(priority.SERVER_NICENESS)]


@pytest.mark.skipif(not allowed(), reason="real-time priority is not allowed here")
def test_with_rights_the_thread_and_those_it_starts_go_first_and_no_longer() -> None:
    before = os.sched_getscheduler(0)
    schedulers: list[int] = []
    with priority.realtime_priority():
        thread = threading.Thread(target=lambda: schedulers.append(os.sched_getscheduler(0)))
        thread.start()
        thread.join()
        schedulers.append(os.sched_getscheduler(0))
    assert schedulers == [os.SCHED_RR, os.SCHED_RR]
    assert os.sched_getscheduler(0) == before
    assert priority.server_niceness() == 0
