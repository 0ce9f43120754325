"""Runs that fail, are killed, grow or are asked for again: which points are reused, which are measured again."""

from __future__ import annotations

import json
import logging
import signal
from dataclasses import replace
from typing import Any

import pyarrow.parquet as pq
import pytest
from helpers.mock_server import eventually
from helpers.run_harness import BUDGETS, POINTS, QUESTIONS, RUN, RunHarness
from rllm_serving.measurement import fingerprint
from rllm_serving.measurement.run import Measurement, RunError
from rllm_serving.serving import hardware
from rllm_serving.serving.engines import Options
from rllm_serving.serving.server import ServerError
from rllm_serving.study.design import Point, Run


def test_failures_above_the_limit_end_the_run_and_a_rerun_measures_what_is_missing(harness: RunHarness) -> None:
    harness.fail(q1_128="http-500", q2_128="close")
    with pytest.raises(RunError, match=r"failed_rate 50 %, allowed 0 %.*measurement\.max_failed_rate") as caught:
        harness.execute()
    message = str(caught.value)
    assert "sums__batch-2__128__0" in message and "http: HTTP 500" in message and "the engine is dead" in message
    assert "truncated: stream cut off" in message and str(harness.paths.server_log) in message
    assert harness.outputs() == [False] * 3
    assert harness.measured() == {64: 4, 128: 4} and harness.journaled() == [POINTS[0].name]
    [rejected] = harness.paths.partial.glob("*.rejected.parquet")
    assert str(rejected) in message and pq.read_table(rejected).num_rows == QUESTIONS

    harness.faults.unlink()
    harness.execute()
    assert harness.measured() == {128: 4, 256: 4}
    assert harness.outputs() == [True] * 3 and not harness.paths.partial.exists()
    requests = pq.read_table(harness.paths.requests)
    assert requests["budget"].to_pylist() == [b for b in BUDGETS for _ in range(QUESTIONS)]
    assert set(requests["status"].to_pylist()) == {"ok"}
    record = json.loads(harness.paths.record.read_text())
    first, second = (session["id"] for session in record["sessions"])
    assert [entry["session"] for entry in record["points"]] == [first, second, second]


def test_a_run_that_goes_on_elsewhere_starts_anew(harness: RunHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    harness.fail(q1_128="http-500", q2_128="close")
    with pytest.raises(RunError):
        harness.execute()
    assert harness.measured() == {64: 4, 128: 4}
    harness.faults.unlink()
    here = hardware.describe()
    monkeypatch.setattr(hardware, "describe", lambda used: here | {"cpu": "another CPU"})
    harness.execute()
    assert harness.measured() == {64: 4, 128: 4, 256: 4}
    record = json.loads(harness.paths.record.read_text())
    assert [session["hardware"]["cpu"] for session in record["sessions"]] == ["another CPU"]


def test_a_server_that_dies_during_a_point_is_reported_and_costs_that_point(harness: RunHarness) -> None:
    harness.fail(q3_128="die")
    with pytest.raises(ServerError, match="ended with exit code 7"):
        harness.execute()
    assert harness.journaled() == [POINTS[0].name] and harness.outputs() == [False] * 3
    harness.sent()
    harness.faults.unlink()
    harness.execute()
    assert harness.measured() == {128: 4, 256: 4} and harness.outputs() == [True] * 3


def test_a_run_killed_hard_during_a_point_loses_that_point_and_its_server(harness: RunHarness) -> None:
    harness.fail(q3_128="hang")
    with harness.start() as run:
        assert eventually(lambda: harness.record.exists() and '"q3 ok"}], "stream": true' in harness.record.read_text())
        assert eventually(lambda: harness.record.read_text().count('"max_tokens": 128') == 4)
        run.send_signal(signal.SIGKILL)
    assert harness.journaled() == [POINTS[0].name] and harness.outputs() == [False] * 3
    harness.sent()
    harness.faults.unlink()
    harness.execute()
    assert harness.measured() == {128: 4, 256: 4} and harness.outputs() == [True] * 3


def test_a_damaged_point_of_the_journal_is_measured_again(harness: RunHarness) -> None:
    harness.fail(q0_256="http-400")
    with pytest.raises(RunError):
        harness.execute()
    assert harness.measured() == {64: 4, 128: 4, 256: 4}
    harness.faults.unlink()
    file = harness.paths.partial / f"{POINTS[0].name}.requests.parquet"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    harness.execute()
    assert harness.measured() == {64: 4, 256: 4} and harness.outputs() == [True] * 3


def test_a_run_that_grew_measures_what_is_new_and_one_that_shrank_nothing(harness: RunHarness) -> None:
    harness.execute(replace(RUN, points=POINTS[:2]))
    before = pq.read_table(harness.paths.requests)
    assert harness.measured() == {64: 4, 128: 4}
    harness.execute()
    assert harness.measured() == {256: 4}
    grown = pq.read_table(harness.paths.requests)
    assert grown.num_rows == 12 and grown.slice(0, 8).equals(before)
    assert len(json.loads(harness.paths.record.read_text())["sessions"]) == 2
    # What was added was measured by a server that was started again, and says so.
    assert grown["restart"].to_pylist() == [0] * 8 + [1] * 4 and set(grown["start"].to_pylist()) == {1}
    harness.execute(replace(RUN, points=POINTS[1:2]))
    assert harness.sent() == []
    assert pq.read_table(harness.paths.requests).equals(before.slice(4, 4))


def test_other_limits_are_looked_at_without_measuring(harness: RunHarness) -> None:
    harness.execute(replace(RUN, points=POINTS[:2]))
    harness.sent()
    harness.execute(replace(RUN, points=POINTS[:2], measurement={**RUN.measurement, "max_failed_rate": 0.5}))
    assert harness.sent() == []


@pytest.mark.parametrize("before", [POINTS[:2], POINTS])
def test_a_forced_run_is_measured_anew_also_when_it_had_more_points(
    harness: RunHarness, before: tuple[Point, ...]
) -> None:
    harness.execute(replace(RUN, points=before))
    harness.sent()
    harness.paths.forced.touch()
    harness.fail(q0_128="http-500")
    with pytest.raises(RunError):
        harness.execute(replace(RUN, points=POINTS[:2]))
    assert harness.measured() == {64: 4, 128: 4} and harness.outputs() == [True] * 3
    harness.faults.unlink()
    # What was measured since then is taken up; forced again, it is not.
    harness.execute(replace(RUN, points=POINTS[:2]))
    assert harness.measured() == {128: 4}
    harness.fail(q0_128="http-500")
    harness.paths.forced.touch()
    with pytest.raises(RunError):
        harness.execute(replace(RUN, points=POINTS[:2]))
    harness.sent()
    harness.faults.unlink()
    harness.paths.forced.touch()
    harness.execute(replace(RUN, points=POINTS[:2]))
    assert harness.measured() == {64: 4, 128: 4}


def _other_template(harness: RunHarness) -> Run:
    (harness.folder / "sums.jinja").write_text("{{ question }} ")
    return RUN


def _other_packages(harness: RunHarness) -> Run:
    (harness.folder / "environment.json").write_text(json.dumps({"packages": {"fake": "1.1"}}))
    return RUN


def _other_model(harness: RunHarness) -> Run:
    harness.write_model("e")
    return RUN


@pytest.mark.parametrize(
    "change",
    [
        lambda harness: replace(RUN, sampling={"temperature": 0.7}),
        lambda harness: replace(RUN, seed=8),
        lambda harness: replace(RUN, options=Options(max_running_requests=2)),
        _other_template,
        _other_packages,
        _other_model,
    ],
)
def test_whatever_the_numbers_depend_on_changes_the_fingerprint(harness: RunHarness, change: Any) -> None:
    before = Measurement(RUN, harness.paths, "cpu").fingerprint
    assert Measurement(change(harness), harness.paths, "cpu").fingerprint != before


def test_points_of_other_code_are_measured_again(harness: RunHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    harness.fail(q0_128="http-500")
    with pytest.raises(RunError):
        harness.execute(replace(RUN, points=POINTS[:2]))
    assert harness.measured() == {64: 4, 128: 4} and harness.journaled() == [POINTS[0].name]
    harness.faults.unlink()
    monkeypatch.setattr(fingerprint, "measuring_code", lambda: "other code")
    harness.execute(replace(RUN, points=POINTS[:2]))
    assert harness.measured() == {64: 4, 128: 4}
    monkeypatch.setattr(fingerprint, "measuring_code", lambda: "code of today")
    harness.execute()
    assert harness.measured() == {64: 4, 128: 4, 256: 4}


def test_the_fingerprint_knows_the_device_and_not_the_points(harness: RunHarness) -> None:
    before = Measurement(RUN, harness.paths, "cpu").fingerprint
    assert Measurement(replace(RUN, points=POINTS[:1]), harness.paths, "cpu").fingerprint == before
    assert Measurement(Run.from_dict(RUN.to_dict(), RUN.points), harness.paths, "cpu").fingerprint == before
    assert Measurement(RUN, harness.paths, "cuda").fingerprint != before


def test_nothing_is_taken_over_from_another_fingerprint(harness: RunHarness) -> None:
    harness.execute(replace(RUN, points=POINTS[:1]))
    harness.fail(q0_128="http-500")
    with pytest.raises(RunError):
        harness.execute(RUN)
    harness.sent()
    harness.faults.unlink()
    harness.execute(replace(RUN, seed=8, points=POINTS[:2]))
    assert harness.measured() == {64: 4, 128: 4}


def test_a_run_says_in_one_line_why_its_points_are_measured_again(harness: RunHarness) -> None:
    log = logging.getLogger("rllm_serving")
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    log.addHandler(handler)
    try:
        harness.execute(RUN)
        harness.execute(replace(RUN, seed=8))
        record = json.loads(harness.paths.record.read_text())
        harness.paths.record.write_text(json.dumps(record | {"fingerprint": "0123abc"}))
        harness.execute(replace(RUN, seed=8))
    finally:
        log.removeHandler(handler)
    again = [line.partition(": its points are measured again: ")[2] for line in lines if "measured again" in line]
    assert again == [
        "changed since they were measured: config",
        "they were measured by an earlier version of this workflow",
    ]
