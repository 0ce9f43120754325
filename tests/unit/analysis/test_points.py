"""Metrics of requests and points against values worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import run_fixtures
from helpers.analysed import breakdown, points, summary
from helpers.request_rows import KEYS, POINT, dead, request, three
from rllm_serving.analysis import request_metrics
from rllm_serving.analysis.metrics import METRICS
from rllm_serving.analysis.points import experiment_tables
from rllm_serving.analysis.server_data import ServerData
from rllm_serving.analysis.timing import Slo
from rllm_serving.measurement.rows import REQUESTS, SERVER
from rllm_serving.schemas import OWN_ENGINES


def grades(correct: list[bool]) -> pd.DataFrame:
    rows = [
        POINT | {"index": i, "correct": c, "failure_mode": None if c else "wrong", "extracted": None}
        for i, c in enumerate(correct)
    ]
    return pd.DataFrame(rows).drop(columns="load_level")


def one(rows: list[dict[str, object]], *more: object, slo: Slo | None = None) -> pd.Series:
    return points(ServerData(pa.Table.from_pylist(rows), *more), slo).iloc[0]  # type: ignore[arg-type]


def test_three_requests_by_hand() -> None:
    point = one(three(), grades([True, False, False]))
    expected = {
        **{
            "num_requests": 3,
            "completed": 3,
            "failed": 0,
            "failed_rate": 0,
            "num_questions": 3,
            "points": 1,
            "starts": 1,
        },
        **{"answered_rate": 2 / 3, "truncated_rate": 1 / 3, "accuracy": 1 / 3, "failure_mode_wrong": 2 / 3},
        **{"output_throughput": 10 / 10},  # 3 + 6 + 1 tokens from the first arrival at 0 to the last finish at 10
        **{"ttft_mean": (1 + 0.5 + 1) / 3, "ttft_p50": 1, "ttfvt_p50": 3.5},
        # one third has waited from 3.5 to 9 in vain
        **{"ttfvt_mean": 1 + 2.5 * 2 / 3 + 5.5 / 3, "ttfvt_horizon": 9},
        **{"e2e_latency_mean": (3 + 4.5 + 9) / 3, "e2e_latency_p50": 4.5, "e2e_latency_p90": 9},
        **{"tpot_mean": (2 / 2 + 4 / 5) / 2, "tpot_p50": 0.8},
        # gaps 1, 1, 3, 1; the third is shared by 4 tokens
        **{"icl_mean": 6 / 4, "icl_p50": 1, "icl_p90": 3, "icl_p99": 3},
        **{"itl_mean": 6 / 7, "itl_p50": 0.75, "itl_p90": 1, "itl_p99": 1},
        **{"output_tokens_mean": 10 / 3, "output_tokens_p50": 3, "output_tokens_p99": 6},
        # Fewer than 1.5 of 3 run from 0 to 0.5 (one sent) and from 5 to 10; of three, one is more than a quarter.
        **{"straggler_time_fraction": 0.55, "last_quarter_time_fraction": 0.0},
        **{"request_throughput": 3 / 10, "correct_rate": 1 / 10, "correct_per_million_tokens": 1e5},
    }
    assert point[list(expected)].astype(float).to_dict() == pytest.approx(expected)
    assert point["output_throughput_low":"output_throughput_high"].isna().all()  # one start has no interval
    assert np.isnan(point["ttfvt_p90"])  # two thirds have answered: nobody knows


def test_goodput_counts_who_kept_both_promises() -> None:
    # TTFVT 1, 3.5 and none; 1000 and 500 ms a visible token; 10 s in all, of the failed one as well.
    rows = [row | {"answer_tokens": tokens} for row, tokens in zip(three(), (3, 3, 0), strict=True)]
    for slo, met in ((Slo(3.5, 1000), 2), (Slo(3.5, 900), 1), (Slo(1.0, 1000), 1), (Slo(0.9, 1000), 0)):
        point = one([*rows, dead(3)], slo=slo)
        assert (point["slo_attainment"], point["goodput"]) == (met / 4, met / 10)
    quick = request(0, sent=0.0, first_token=1.0, first_visible_token=1.0, last_token=1.0, output_tokens=1)
    quick |= {"chunk_times": [1.0], "chunk_tokens": [1]}
    assert one([quick | {"answer_tokens": 1}], slo=Slo(2.0, 1.0))["slo_attainment"] == 1
    uncounted = quick | {"answer_tokens": None}  # nobody counted: nobody knows the pace
    assert pd.isna(one([uncounted], slo=Slo(2.0, 1.0))["slo_attainment"])
    assert one([uncounted], slo=Slo(0.5, 1.0))["slo_attainment"] == 0  # it was too late, whatever its pace
    assert pd.isna(one(three())["slo_attainment"])


def test_chunks_whose_tokens_nobody_told_have_gaps_and_no_token_latency() -> None:
    rows = [row | {"chunk_tokens": [None] * len(row["chunk_tokens"])} for row in three()]  # type: ignore[arg-type]
    point = one(rows)
    assert point["icl_mean"] == pytest.approx(6 / 4) and pd.isna(point["itl_mean"])
    assert point["output_throughput"] == pytest.approx(1.0) and pd.isna(point["kv_held_tokens_mean"])


def test_what_was_not_started_here_is_not_controlled() -> None:
    assert one(three())["controlled"] == (KEYS["engine"] in OWN_ENGINES)
    assert not one([row | {"engine": "far"} for row in three()])["controlled"]


def test_answers_of_a_forced_length_are_not_graded() -> None:
    rows = [row | {"forced_output_tokens": row["output_tokens"]} for row in three()]
    point = one(rows, grades([True, False, False]))
    assert pd.isna(point["accuracy"]) and pd.isna(point["failure_mode_wrong"]) and point["answered_rate"] == 2 / 3


def test_what_a_run_says_of_its_points_stands_beside_their_metrics() -> None:
    entry = {name: POINT[name] for name in ("dataset", "load", "budget")}
    numbers = {"loop_lag_p99_s": 0.01, "client_cpu_utilization": None}
    told = [
        {**entry, "repeat": 0, "duration_s": 2.0, "validity": numbers, "invalid": None},
        {
            **entry,
            "repeat": 1,
            "duration_s": 3.0,
            "validity": {"loop_lag_p99_s": 0.5},
            "invalid": "loop_lag_p99_s 500 ms",
        },
    ]
    table = pa.Table.from_pylist(three() + [row | {"repeat": 1} for row in three()])
    run = ServerData(table, records=[{"points": told}])
    each, whole = points(run), summary(run).iloc[0]
    assert pd.isna(each["invalid"][0]) and each["invalid"][1] == "loop_lag_p99_s 500 ms"
    assert each["loop_lag_p99_s"].tolist() == [0.01, 0.5]
    assert each["duration"].tolist() == [2, 3] and pd.isna(each["client_cpu_utilization"]).all()
    # The invalid one takes no part, and is counted.
    assert (whole["duration"], whole["loop_lag_p99_s"], whole["points"], whole["invalid_points"]) == (2, 0.01, 1, 1)
    assert whole["invalid"] is None and whole["num_requests"] == 3
    assert breakdown(run, "domain")["num_requests"].tolist() == [3]
    # Where all are, the row is marked.
    bad = ServerData(table, records=[{"points": [entry | {"invalid": "late"} for entry in told]}])
    assert summary(bad).iloc[0][["num_requests", "invalid", "invalid_points"]].tolist() == [6, "late", 2]


def test_chunks_are_those_of_the_requests_asked_for() -> None:
    rows = [*three(), dead(3)]
    rows[1] |= {"chunk_times": [1.0, 2.0, 4.0, 5.0], "chunk_tokens": [1, 0, 4, 1]}
    chunks = request_metrics.Chunks(
        pa.concat_tables([pa.Table.from_pylist([row]) for row in rows], promote_options="permissive")
    )
    plain = [
        (number, time, tokens)
        for number, row in enumerate(rows)
        for time, tokens in zip(row["chunk_times"], row["chunk_tokens"], strict=True)  # type: ignore[call-overload]
        if tokens
    ]

    def taken(*numbers: int, wanted: list[bool] | None = None) -> list[tuple[int, float, float]]:
        found = chunks.take(np.array(numbers, dtype=np.int64), None if wanted is None else np.array(wanted))
        return [(numbers[row], time, tokens) for row, time, tokens in found.itertuples(index=False)]

    for numbers in ((0, 1, 2, 3), (1, 2), (2,), (0, 3), (3, 1, 0), ()):
        assert taken(*numbers) == [chunk for number in numbers for chunk in plain if chunk[0] == number]
    assert taken(0, 1, 2, 3, wanted=[True, False, True, False]) == [chunk for chunk in plain if chunk[0] in (0, 2)]


def test_a_run_is_read_with_its_own_grades_and_texts_as_hashes(tmp_path: Path) -> None:
    texts = [("thought", "said"), ("thoughtsaid", ""), (None, "said"), ("thought", "said")]
    rows = [request(k, closed=1.0, chunk_times=[1.0], chunk_tokens=[1]) for k in range(4)]
    rows = [row | dict(zip(request_metrics.WRITTEN, text, strict=True)) for row, text in zip(rows, texts, strict=True)]
    pq.write_table(pa.Table.from_pylist(rows, schema=REQUESTS), tmp_path / "requests.parquet", row_group_size=1)
    marks = [KEYS | row for row in grades([True, False, True, True]).to_dict("records")]
    others = [row | {"setup": "cold", "correct": False} for row in marks]
    pd.DataFrame([*others, *marks]).to_parquet(tmp_path / "grades.parquet")
    pq.write_table(SERVER.empty_table(), tmp_path / "server.parquet")
    (tmp_path / "run.json").write_text('{"points": []}')
    names = ("requests.parquet", "server.parquet", "run.json", "grades.parquet")
    requests, server, record, graded = (tmp_path / name for name in names)
    run = ServerData.read([requests], [server], [record], [graded], texts=True)
    said = run.frame["said"].tolist()
    assert said[0] == said[3] and len(set(said)) == 3
    assert run.frame["correct"].tolist() == [1, 0, 1, 1]
    assert (
        "said" not in ServerData.read([requests], [server], [record], [graded]).frame and "answer_text" not in run.frame
    )


def test_failures_are_counted_and_enter_no_latency() -> None:
    clean, mixed = one(three()), one([*three(), dead(3)])
    assert (mixed["num_requests"], mixed["completed"], mixed["failed"], mixed["failed_rate"]) == (4, 3, 1, 0.25)
    same = [
        f"{name}_{stat}" for name in ("ttft", "ttfvt", "e2e_latency", "tpot", "itl", "icl") for stat in ("mean", "p99")
    ]
    same += ["output_throughput", "output_tokens_mean", "straggler_time_fraction"]
    assert mixed[same].astype(float).to_dict() == pytest.approx(clean[same].astype(float).to_dict(), nan_ok=True)
    assert mixed["answered_rate"] == 0.5


def test_nothing_but_failures_gives_no_number() -> None:
    rows = [dead(i, batch=i) for i in range(3)]
    point = one(rows, grades([False] * 3))
    assert point["failed_rate"] == 1
    assert point["answered_rate"] == 0
    assert (
        point[["accuracy", "output_throughput", "e2e_latency_mean", "ttfvt_p50", "itl_mean", "straggler_time_fraction"]]
        .isna()
        .all()
    )


def test_ttfvt_is_missing_when_nothing_was_visible() -> None:
    frame = request_metrics.latencies(pa.Table.from_pylist(three()))
    assert frame["ttfvt"].isna().tolist() == [False, False, True]
    point = one(three()[2:])
    # It has waited for 9 s in vain: nobody knows the median, and up to 9 s the mean is 9.
    assert np.isnan(point["ttfvt_p50"]) and point[["ttfvt_mean", "ttfvt_horizon"]].tolist() == [9, 9]


def test_tpot_needs_two_tokens() -> None:
    frame = request_metrics.latencies(pa.Table.from_pylist(three()))
    assert frame["tpot"].isna().tolist() == [False, False, True]


def test_the_pace_of_an_answer_is_that_of_its_visible_tokens() -> None:
    rows = [row | {"answer_tokens": tokens} for row, tokens in zip(three(), (3, 2, 2), strict=True)]
    frame = request_metrics.latencies(pa.Table.from_pylist([*rows, three()[0] | {"answer_tokens": 1}]))
    assert frame["visible_tpot"].fillna(-1).tolist() == [1.0, 1.0, -1, -1]  # nothing visible; a single token


@pytest.mark.parametrize(("load", "arrival"), [("open-2", 0.0), ("trace-a", 0.0), ("batch-2", 1.0), ("closed-2", 1.0)])
def test_arrival_is_scheduled_only_when_the_load_has_a_clock(load: str, arrival: float) -> None:
    row = three()[0] | {"load": load, "scheduled": 0.0, "sent": 1.0}
    assert request_metrics.latencies(pa.Table.from_pylist([row]))["arrival"].tolist() == [arrival]


def test_chunks_without_tokens_make_no_gap() -> None:
    row = three()[0] | {"chunk_times": [1.0, 2.0, 4.0], "chunk_tokens": [1, 0, 2]}
    gaps = request_metrics.token_gaps(request_metrics.Chunks(pa.Table.from_pylist([row])).take(np.arange(1)))
    assert gaps.to_dict("records") == [{"row": 0, "gap": 3.0, "itl": 1.5, "tokens": 2.0}]


def test_chunk_lists_of_different_length_are_refused() -> None:
    row = three()[0] | {"chunk_times": [1.0, 2.0]}
    with pytest.raises(ValueError, match="differ in length"):
        request_metrics.Chunks(pa.Table.from_pylist([row]))


def test_no_accuracy_unless_all_are_graded() -> None:
    assert np.isnan(one(three(), grades([True, True]))["accuracy"])
    assert np.isnan(one(three())["accuracy"])


def test_summary_pools_repeats() -> None:
    later = [row | {"repeat": 1, "last_token": row["last_token"] + 10} for row in three()]  # type: ignore[operator]
    run = {"points": [POINT | {"repeat": r, "duration_s": d} for r, d in ((0, 10.5), (1, 20.5))]}
    table = pa.Table.from_pylist(three() + later)
    pooled = summary(ServerData(table, records=[run])).iloc[0]
    assert (pooled["num_requests"], pooled["num_questions"], pooled["points"], pooled["duration"]) == (6, 3, 2, 31)
    assert pooled["output_throughput"] == pytest.approx(20 / (10 + 20))
    assert points(ServerData(table, records=[run]))["duration"].tolist() == [10.5, 20.5]


def test_throughput_of_other_loads_is_that_of_the_span() -> None:
    rows = [row | {"load": "closed-3", "batch": None} for row in three()]
    rows[0]["output_tokens"] = 5  # two more than its chunks show
    point = one(rows)
    assert point["output_throughput"] == pytest.approx(12 / 10)
    assert np.isnan(point["straggler_time_fraction"])


def test_every_metric_is_a_column_and_every_interval_holds_its_value() -> None:
    requests, grades, samples, record = run_fixtures.run(budgets=(32, 512), starts=3, loads=(8, 16), questions=48)
    server = ServerData(requests, grades, samples, [record])
    frame = summary(server, slo=Slo(ttfvt_s=0.5, tpot_ms=10), price_per_hour=0.2)
    assert set(METRICS) <= set(frame.columns) and (frame["starts"] == 3).all()
    for name in (name for name, metric in METRICS.items() if metric.units):
        known = frame[frame[f"{name}_low"].notna()]
        # So few requests say nothing of how far the slowest hundredth may reach; prompts here are equally long.
        assert len(known) or name.endswith("_p99") or name == "prompt_tokens_p50", name
        # The interval is of a typical start, the value of all requests together.
        assert (known[f"{name}_low"] <= known[name] * 1.01 + 1e-9).all(), name
        assert (known[f"{name}_high"] >= known[name] * 0.99 - 1e-9).all(), name


def test_intervals_of_times_come_from_the_starts_and_of_answers_from_the_questions() -> None:
    requests, grades, samples, record = run_fixtures.run(budgets=(512,), starts=1, repeats=3)
    one_start = summary(ServerData(requests, grades, samples, [record]))
    assert (one_start["starts"] == 1).all() and one_start["accuracy_low"].notna().all()
    assert one_start[["e2e_latency_mean_low", "output_throughput_low", "kv_held_share_mean_low"]].isna().all(axis=None)
    # The same requests as those of three starts, two of which are slower by ten percent.
    frame = requests.to_pandas().assign(start=lambda f: 1 + f["repeat"])
    three_starts = ServerData(pa.Table.from_pandas(frame, preserve_index=False), grades, samples, [record])
    found = summary(three_starts)
    assert found["accuracy_low"].tolist() == one_start["accuracy_low"].tolist()
    for name in ("e2e_latency_mean", "ttfvt_mean", "output_throughput", "tpot_p50"):
        assert (found[f"{name}_low"] < found[name]).all(), name
    starts = experiment_tables([three_starts]).starts
    assert sorted(starts["start"]) == [1] * 4 + [2] * 4 + [3] * 4 and starts["e2e_latency_mean"].notna().all()


def test_breakdown_splits_a_condition() -> None:
    rows = three()
    rows[2]["difficulty"] = "hard"
    frame = breakdown(ServerData(pa.Table.from_pylist(rows), grades([True, False, False])), "difficulty")
    frame = frame.set_index("difficulty")
    assert frame["num_requests"].to_dict() == {"easy": 2, "hard": 1}
    assert frame["accuracy"].to_dict() == {"easy": 0.5, "hard": 0.0}
    assert frame.loc["hard", "e2e_latency_mean"] == 9
    assert frame["output_throughput"].isna().all()
