"""Runs that a cluster ends at their time limit, again and again: each attempt adds to what is finished."""

from __future__ import annotations

import json
import signal
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
from helpers.mock_server import eventually
from helpers.run_harness import BUDGETS, POINTS, QUESTIONS, RunHarness


def asked(record: Path, budget: int) -> bool:
    """Whether all questions of a point were asked."""
    return record.exists() and record.read_text().count(f'"max_tokens": {budget}') >= QUESTIONS


def test_a_run_that_is_ended_in_every_point_gets_done_all_the_same(harness: RunHarness) -> None:
    for finished, budget in enumerate(BUDGETS):
        harness.fail(**{f"q3_{budget}": "hang"})
        with harness.start() as run:
            assert eventually(partial(asked, harness.record, budget))
            # As Slurm does at a job's limit.
            run.send_signal(signal.SIGTERM)
        assert harness.journaled() == sorted(point.name for point in POINTS[:finished])
        assert harness.outputs() == [False] * 3
        harness.sent()
    harness.faults.unlink()
    harness.execute()
    assert harness.measured() == {BUDGETS[-1]: QUESTIONS} and harness.outputs() == [True] * 3
    record = json.loads(harness.paths.record.read_text())
    assert len(record["sessions"]) == len(BUDGETS)
    assert pq.read_table(harness.paths.requests).num_rows == len(POINTS) * QUESTIONS
