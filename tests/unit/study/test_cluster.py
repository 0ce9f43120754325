"""Minutes that clusters are asked for, with and without the limit of their queues."""

from __future__ import annotations

import pytest
from rllm_serving.study.cluster import JobTimes
from unit.study.test_estimate import QUANTIZED, RUN, planned


def test_without_a_limit_attempts_are_granted_ever_more() -> None:
    plan = planned()
    times, run = JobTimes(plan), plan.study.runs[RUN]
    assert [times.run_minutes(run, attempt) for attempt in (1, 2)] == [plan.minutes(run), 2 * plan.minutes(run)]
    assert times.retries() is None and times.notes() == []


def test_a_run_is_granted_the_limit_and_tried_as_often_as_it_takes() -> None:
    plan = planned(
        ("max_run_minutes", 30), ("experiments.budget.num_questions", 10_000), ("datasets.easy.num_questions", 10_000)
    )
    times, run = JobTimes(plan), plan.study.runs[RUN]
    assert plan.minutes(run) > 60
    assert [times.run_minutes(run, attempt) for attempt in (1, 3)] == [30, 30]
    assert times.retries() == pytest.approx(plan.minutes(run) / 30, abs=1)
    # One of its points alone takes longer.
    assert any(note.startswith("max_run_minutes: 30 may be too few for experiment 'budget'") for note in times.notes())
    assert JobTimes(planned(("max_run_minutes", 600))).notes() == []


def test_quantizing_is_granted_by_its_size() -> None:
    plan = planned(*QUANTIZED)
    estimate, times = plan.quantizing("big", "w4"), JobTimes(plan)
    assert estimate is not None
    assert times.quantizing_minutes("big", "w4", 1) == pytest.approx(60 * (2 * estimate.most_h + 0.5), abs=1)
    assert times.quantizing_minutes("big", "w4", 2) == 2 * times.quantizing_minutes("big", "w4", 1)
