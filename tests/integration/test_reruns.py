"""Runs that fail, are killed, grow or are asked for again: what is kept, and what is measured again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from helpers import mock_server
from helpers.mock_server import eventually
from helpers.run_harness import BUDGETS, POINTS, QUESTIONS, RUN, Bench
from rllm_serving.measurement import run as module
from rllm_serving.measurement.run import Measurement, RunError
from rllm_serving.serving.engines import ENGINES, Options
from rllm_serving.serving.server import ServerError
from rllm_serving.study.design import Run


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setitem(ENGINES, "stand", ENGINES["vllm"])  # so that it is taken out again
    return Bench(tmp_path)


def test_failures_above_the_limit_end_the_run_and_a_rerun_measures_what_is_missing(bench: Bench) -> None:
    bench.fail(q1_128="http-500", q2_128="close")
    with pytest.raises(RunError, match=r"failed_rate 50 %, allowed 0 %.*measurement\.max_failed_rate") as caught:
        bench.execute()
    told = str(caught.value)
    assert "sums__batch-2__128__0" in told and "http: HTTP 500" in told and "the engine is dead" in told
    assert "truncated: stream cut off" in told and str(bench.places.server_log) in told
    assert bench.outputs() == [False] * 3
    assert bench.measured() == {64: 4, 128: 4} and bench.kept() == [POINTS[0].name]
    [rejected] = bench.places.partial.glob("*.rejected.parquet")
    assert str(rejected) in told and pq.read_table(rejected).num_rows == QUESTIONS

    bench.faults.unlink()
    bench.execute()
    assert bench.measured() == {128: 4, 256: 4}
    assert bench.outputs() == [True] * 3 and not bench.places.partial.exists()
    requests = pq.read_table(bench.places.requests)
    assert requests["budget"].to_pylist() == [b for b in BUDGETS for _ in range(QUESTIONS)]
    assert set(requests["status"].to_pylist()) == {"ok"}
    record = json.loads(bench.places.record.read_text())
    first, second = (session["id"] for session in record["sessions"])
    assert [entry["session"] for entry in record["points"]] == [first, second, second]


def test_a_run_that_goes_on_elsewhere_starts_anew(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.fail(q1_128="http-500", q2_128="close")
    with pytest.raises(RunError):
        bench.execute()
    assert bench.measured() == {64: 4, 128: 4}
    bench.faults.unlink()
    here = module.hardware.describe()
    monkeypatch.setattr(module.hardware, "describe", lambda used: here | {"cpu": "another CPU"})
    bench.execute()
    assert bench.measured() == {64: 4, 128: 4, 256: 4}
    record = json.loads(bench.places.record.read_text())
    assert [session["hardware"]["cpu"] for session in record["sessions"]] == ["another CPU"]


def test_a_server_that_dies_during_a_point_is_told_and_costs_that_point(bench: Bench) -> None:
    bench.fail(q3_128="die")
    with pytest.raises(ServerError, match="ended with exit code 7"):
        bench.execute()
    assert bench.kept() == [POINTS[0].name] and bench.outputs() == [False] * 3
    bench.sent()
    bench.faults.unlink()
    bench.execute()
    assert bench.measured() == {128: 4, 256: 4} and bench.outputs() == [True] * 3


def test_a_run_killed_hard_during_a_point_loses_that_point_and_its_server(bench: Bench) -> None:
    bench.fail(q3_128="hang")
    imports = "from pathlib import Path; from integration.test_run import Bench"
    program = f"{imports}; Bench(Path({str(bench.folder)!r})).execute()"
    search = os.pathsep.join((str(Path(module.__file__).parents[2]), mock_server.TESTS))
    with subprocess.Popen([sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": search}) as run:
        assert eventually(lambda: bench.record.exists() and '"q3 ok"}], "stream": true' in bench.record.read_text())
        assert eventually(lambda: bench.record.read_text().count('"max_tokens": 128') == 4)
        run.send_signal(signal.SIGKILL)
    assert bench.kept() == [POINTS[0].name] and bench.outputs() == [False] * 3
    bench.sent()
    bench.faults.unlink()
    bench.execute()
    assert bench.measured() == {128: 4, 256: 4} and bench.outputs() == [True] * 3


def test_a_damaged_point_of_the_journal_is_measured_again(bench: Bench) -> None:
    bench.fail(q0_256="http-400")
    with pytest.raises(RunError):
        bench.execute()
    assert bench.measured() == {64: 4, 128: 4, 256: 4}
    bench.faults.unlink()
    file = bench.places.partial / f"{POINTS[0].name}.requests.parquet"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    bench.execute()
    assert bench.measured() == {64: 4, 256: 4} and bench.outputs() == [True] * 3


def test_a_run_that_grew_measures_what_is_new_and_one_that_shrank_nothing(bench: Bench) -> None:
    bench.execute(replace(RUN, points=POINTS[:2]))
    before = pq.read_table(bench.places.requests)
    assert bench.measured() == {64: 4, 128: 4}
    bench.execute()
    assert bench.measured() == {256: 4}
    grown = pq.read_table(bench.places.requests)
    assert grown.num_rows == 12 and grown.slice(0, 8).equals(before)
    assert len(json.loads(bench.places.record.read_text())["sessions"]) == 2
    bench.execute(replace(RUN, points=POINTS[1:2]))
    assert bench.sent() == []
    assert pq.read_table(bench.places.requests).equals(before.slice(4, 4))


def test_a_complete_run_asked_for_again_is_measured_anew(bench: Bench) -> None:
    bench.execute(replace(RUN, points=POINTS[:2]))
    bench.sent()
    bench.fail(q0_128="http-500")
    with pytest.raises(RunError):
        bench.execute(replace(RUN, points=POINTS[:2]))
    assert bench.measured() == {64: 4, 128: 4} and bench.outputs() == [True] * 3
    bench.faults.unlink()
    bench.execute(replace(RUN, points=POINTS[:2]))
    assert bench.measured() == {128: 4}


def _other_template(bench: Bench) -> Run:
    (bench.folder / "sums.jinja").write_text("{{ question }} ")
    return RUN


def _other_packages(bench: Bench) -> Run:
    (bench.folder / "environment.json").write_text(json.dumps({"packages": {"stand": "1.1"}}))
    return RUN


def _other_model(bench: Bench) -> Run:
    (bench.folder / "model.json").write_text(json.dumps({"path": str(bench.folder / "model"), "digest": "e"}))
    return RUN


@pytest.mark.parametrize(
    "change",
    [
        lambda bench: replace(RUN, sampling={"temperature": 0.7}),
        lambda bench: replace(RUN, seed=8),
        lambda bench: replace(RUN, options=Options(max_running_requests=2)),
        _other_template,
        _other_packages,
        _other_model,
    ],
)
def test_whatever_the_numbers_depend_on_changes_the_fingerprint(bench: Bench, change: Any) -> None:
    before = Measurement(RUN, bench.places, "cpu").fingerprint
    assert Measurement(change(bench), bench.places, "cpu").fingerprint != before


def test_the_fingerprint_knows_the_device_and_not_the_points(bench: Bench) -> None:
    before = Measurement(RUN, bench.places, "cpu").fingerprint
    assert Measurement(replace(RUN, points=POINTS[:1]), bench.places, "cpu").fingerprint == before
    assert Measurement(Run.from_dict(RUN.to_dict(), RUN.points), bench.places, "cpu").fingerprint == before
    assert Measurement(RUN, bench.places, "cuda").fingerprint != before


def test_nothing_is_taken_over_from_another_fingerprint(bench: Bench) -> None:
    bench.execute(replace(RUN, points=POINTS[:1]))
    bench.fail(q0_128="http-500")
    with pytest.raises(RunError):
        bench.execute(RUN)
    bench.sent()
    bench.faults.unlink()
    bench.execute(replace(RUN, seed=8, points=POINTS[:2]))
    assert bench.measured() == {64: 4, 128: 4}
