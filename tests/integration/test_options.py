"""Runs whose server runs with other options than those that were asked."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import pytest
from helpers.fake_engine import FakeEngine
from helpers.run_harness import BUDGETS, POINTS, QUESTIONS, RUN, RunHarness
from rllm_serving.measurement.point_validity import OptionsError
from rllm_serving.serving.engines import ENGINES

MARKED = replace(RUN, measurement={**RUN.measurement, "on_invalid": "mark"})
REASON = "served otherwise than asked: prefix_cache asked true, effective false"


def runs_with(**options: object) -> None:
    """From now on the engine runs with these options, whatever it is asked."""
    engine = ENGINES["fake"]
    assert isinstance(engine, FakeEngine)
    engine.runs_with = options


def test_a_compared_option_that_the_engine_changed_fails_the_run_before_anything_is_measured(
    harness: RunHarness,
) -> None:
    runs_with(prefix_cache=False)
    with pytest.raises(OptionsError, match=REASON) as caught:
        harness.execute()
    message = str(caught.value)
    assert RUN.folder in message and "measurement.on_invalid: mark" in message
    assert str(harness.paths.server_log) in message and f"experiments.{RUN.experiment}.setups" in message
    assert harness.measured() == {} and harness.outputs() == [False] * 3 and harness.journaled() == []


def test_or_marks_all_of_its_points(harness: RunHarness, caplog: pytest.LogCaptureFixture) -> None:
    runs_with(prefix_cache=False)
    with caplog.at_level(logging.WARNING):
        harness.execute(MARKED)
    assert "option prefix_cache asked true, effective false" in caplog.text
    assert harness.measured() == dict.fromkeys(BUDGETS, QUESTIONS)
    record = json.loads(harness.paths.record.read_text())
    assert [entry["invalid"] for entry in record["points"]] == [REASON] * len(POINTS)
    [session] = record["sessions"]
    assert session["asked"]["prefix_cache"] is True and session["effective"]["prefix_cache"] is False
    difference = {"option": "prefix_cache", "asked": True, "effective": False, "compared": True}
    assert session["differences"] == [difference]
    assert session["effective"]["context_length"] == session["asked"]["context_length"]

    # What was kept while invalid points were marked is of no use once they fail the run.
    with pytest.raises(OptionsError, match=REASON):
        harness.execute()
    assert harness.measured() == {}
    runs_with()
    harness.execute()
    assert harness.measured() == dict.fromkeys(BUDGETS, QUESTIONS)
    record = json.loads(harness.paths.record.read_text())
    assert {entry["invalid"] for entry in record["points"]} == {None}


def test_an_option_that_nothing_is_compared_by_is_only_recorded(harness: RunHarness) -> None:
    runs_with(seed=8)
    harness.execute(replace(RUN, points=POINTS[:1]))
    record = json.loads(harness.paths.record.read_text())
    difference = {"option": "seed", "asked": RUN.seed, "effective": 8, "compared": False}
    assert record["sessions"][0]["differences"] == [difference] and record["points"][0]["invalid"] is None


def test_an_engine_that_tells_nothing_is_taken_at_its_word(harness: RunHarness) -> None:
    harness.execute(replace(RUN, points=POINTS[:1]))
    [session] = json.loads(harness.paths.record.read_text())["sessions"]
    assert set(session["effective"]) == set(session["asked"]) and set(session["effective"].values()) == {None}
    assert session["differences"] == []
