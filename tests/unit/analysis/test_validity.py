"""The gates of a point: each one alone, and what becomes of a point beyond one."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.run_harness import POINTS, QUESTIONS, RUN, RunHarness
from rllm_serving.analysis import validity
from rllm_serving.analysis.gates import GATES
from rllm_serving.analysis.validity import ClientHealth
from rllm_serving.measurement.run import RunError

FINE = ClientHealth(lags=[0.001] * 100, cpu_s=1.0, wall_s=10.0)
DISTURBANCES = ("host_others_cores", "host_steal_cores", "device_throttled", "device_other_processes")


def requests(**columns: list | pa.Array) -> pa.Table:
    plain = {
        "status": ["ok", "ok"],
        "sent": [0.001, 1.002],
        "scheduled": [0.0, 1.0],
        "output_tokens": [5, 15],
        "streamed_ids": [5, 15],
        "reasoning_tokens": [2, 8],
        "streamed_reasoning": [2, 8],
        "undecoded": [False, False],
    }
    return pa.table({**plain, **columns})


def samples(count: int = 50, grown: float = 20.0, **columns: list | pa.Array) -> pa.Table:
    counter = [100.0 + grown * k / (count - 1) for k in range(count)]
    plain = {"in_window": [True] * count, "running": [1.0] * count, "generated_tokens": counter}
    plain["time"] = [0.2 * k for k in range(count)]
    return pa.table(plain | {name: [None, *[0.0] * (count - 1)] for name in DISTURBANCES} | columns)


def test_a_point_that_nothing_is_wrong_with() -> None:
    seen = validity.compute_gates(FINE, requests(), samples(), 5, 4)
    assert set(seen) == set(GATES)
    assert seen["loop_lag_p99_s"] == pytest.approx(0.001) and seen["client_cpu_utilization"] == pytest.approx(0.1)
    assert seen["schedule_lag_p99_s"] == pytest.approx(0.002, rel=0.01)
    for name in set(seen) - {"loop_lag_p99_s", "client_cpu_utilization", "schedule_lag_p99_s"}:
        assert seen[name] == 0, name
    assert validity.invalid(seen, dict.fromkeys(GATES, math.inf)) is None


@pytest.mark.parametrize(
    ("name", "health", "table", "sampled", "value"),
    [
        ("loop_lag_p99_s", ClientHealth([0.001] * 50 + [0.3] * 50, 1, 10), requests(), samples(), 0.3),
        ("client_cpu_utilization", ClientHealth([0.0], 9.0, 10.0), requests(), samples(), 0.9),
        ("schedule_lag_p99_s", FINE, requests(sent=[0.5, 1.5]), samples(), 0.5),
        ("missing_samples_rate", FINE, requests(), samples(24), 0.5),
        ("usage_mismatch_rate", FINE, requests(streamed_ids=[6, 13]), samples(), 0.15),
        ("usage_mismatch_rate", FINE, requests(streamed_ids=[None, 12]), samples(), 0.2),
        ("reasoning_mismatch_rate", FINE, requests(streamed_reasoning=[3, 7]), samples(), 2 / 11),
        ("reasoning_mismatch_rate", FINE, requests(streamed_reasoning=[None, 4]), samples(), 0.5),
        ("reasoning_mismatch_rate", FINE, requests(reasoning_tokens=[0, 0]), samples(), 1),
        ("counter_mismatch_rate", FINE, requests(), samples(grown=25), 0.25),
        ("undecoded_rate", FINE, requests(undecoded=[True, False]), samples(), 0.5),
        # Of four cores.
        ("others_cpu_utilization", FINE, requests(), samples(host_others_cores=[None] + [1.0] * 49), 0.25),
        ("steal_rate", FINE, requests(), samples(host_steal_cores=[0.2] * 50), 0.05),
        ("throttled_rate", FINE, requests(), samples(device_throttled=[0.0, 1.0] * 25), 0.5),
        ("foreign_processes", FINE, requests(), samples(device_other_processes=[0.0, 2.0] * 25), 2),
        (  # what happens before and after the load disturbs nothing
            "others_cpu_utilization",
            FINE,
            requests(),
            samples(in_window=[False] * 25 + [True] * 25, host_others_cores=[4.0] * 25 + [0.4] * 25),
            0.1,
        ),
        ("failed_rate", FINE, requests(status=["ok", "http"]), samples(), 0.5),
    ],
)
def test_each_gate_sees_its_fault(
    name: str, health: ClientHealth, table: pa.Table, sampled: pa.Table, value: float
) -> None:
    seen = validity.compute_gates(health, table, sampled, 5, 4)
    assert seen[name] == pytest.approx(value, rel=0.01)
    limits = {**dict.fromkeys(GATES, math.inf), name: value * 0.9}
    assert f"{name} " in str(validity.invalid(seen, limits))
    assert validity.invalid(seen, {**limits, name: value * 1.1}) is None


def test_what_is_not_known_is_no_number() -> None:
    unknown = samples(**dict.fromkeys(("generated_tokens", *DISTURBANCES), pa.nulls(50, pa.float64())))
    nobody = dict.fromkeys(("streamed_ids", "streamed_reasoning"), pa.nulls(2, pa.int64()))
    asked = requests(**nobody, undecoded=pa.nulls(2, pa.bool_()))
    seen = validity.compute_gates(ClientHealth(), asked, unknown, 5, 4)
    assert {name for name, value in seen.items() if value is not None} == {
        *("schedule_lag_p99_s", "missing_samples_rate", "failed_rate")
    }
    failed = validity.compute_gates(FINE, requests(status=["ok", "timeout"]), samples(grown=5), 5, 4)
    assert failed["counter_mismatch_rate"] is None


def test_where_nobody_thinks_there_is_nothing_to_compare() -> None:
    nothing = requests(reasoning_tokens=[0, 0], streamed_reasoning=[0, 0])
    assert validity.compute_gates(FINE, nothing, samples(), 5, 4)["reasoning_mismatch_rate"] is None


def test_a_sample_is_one_of_any_metric_that_the_engine_has() -> None:
    without = samples(24, running=pa.nulls(24, pa.float64()), kv_cache_usage=[0.5] * 24)
    seen = validity.compute_gates(FINE, requests(), without, 5, 4)
    assert seen["missing_samples_rate"] == pytest.approx(0.5, rel=0.1)
    none = samples(**dict.fromkeys(("running", "generated_tokens"), pa.nulls(50, pa.float64())))
    seen = validity.compute_gates(FINE, requests(), none, 5, 4)
    assert seen["missing_samples_rate"] == pytest.approx(0.96)


def strict(on_invalid: str) -> dict:
    # The mock server's counter never moves: every point is beyond this gate.
    gates = {**RUN.measurement["gates"], "counter_mismatch_rate": 0.005}
    return {**RUN.measurement, "on_invalid": on_invalid, "gates": gates}


def test_a_point_beyond_a_gate_fails_the_run(harness: RunHarness) -> None:
    with pytest.raises(RunError, match=r"counter_mismatch_rate 100 %, allowed 0\.5 %.*measurement\.on_invalid"):
        harness.execute(replace(RUN, measurement=strict("fail"), points=POINTS[:1]))
    assert harness.outputs() == [False, False, False]


def test_or_is_kept_and_marked(harness: RunHarness, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        harness.execute(replace(RUN, measurement=strict("mark"), points=POINTS[:1]))
    assert len([line for line in caplog.messages if "kept and marked" in line]) == 1
    [point] = json.loads(harness.paths.record.read_text())["points"]
    assert point["invalid"].startswith("counter_mismatch_rate") and point["validity"]["failed_rate"] == 0
    assert pq.read_table(harness.paths.requests).num_rows == QUESTIONS


def test_gates_that_change_judge_anew_and_measure_nothing(harness: RunHarness) -> None:
    harness.execute(replace(RUN, measurement=strict("mark"), points=POINTS[:2]))
    harness.sent()
    harness.execute(replace(RUN, points=POINTS[:1]))
    [point] = json.loads(harness.paths.record.read_text())["points"]
    assert point["invalid"] is None and harness.measured() == {}


def test_a_marked_point_is_measured_again_where_it_would_fail_the_run(harness: RunHarness) -> None:
    harness.execute(replace(RUN, measurement=strict("mark"), points=POINTS[:2]))
    harness.sent()
    with pytest.raises(RunError, match="counter_mismatch_rate"):
        harness.execute(replace(RUN, measurement=strict("fail"), points=POINTS[:1]))
    assert harness.measured() == {64: QUESTIONS}


def test_a_point_of_nothing_but_failures_is_never_kept(harness: RunHarness) -> None:
    harness.fail(**{f"q{i}_64": "http-500" for i in range(QUESTIONS)})
    with pytest.raises(RunError, match=r"4 of 4 failed: http: HTTP 500"):
        harness.execute(replace(RUN, measurement=strict("mark"), points=POINTS[:1]))
