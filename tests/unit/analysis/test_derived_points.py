"""Points under budgets that were not measured: what a model says is known of them, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.analysed import MARGINS
from helpers.request_rows import KEYS, START
from rllm_serving.analysis.comparison import LATENCIES, Rules, compare
from rllm_serving.analysis.decomposition import decompose
from rllm_serving.analysis.derived_check import check_derived
from rllm_serving.analysis.metrics import METRICS
from rllm_serving.analysis.points import Tables, experiment_tables, noise_table
from rllm_serving.analysis.server_data import ServerData
from rllm_serving.grading.cutting import Vocabulary, cut_table
from rllm_serving.grading.grader import GRADED
from rllm_serving.measurement.rows import REQUESTS, SERVER

MEASURED, CHECKED, DERIVED = 8, 4, 2
QUESTIONS = 12


def asked(number: int, budget: int, repeat: int, engine: str) -> dict[str, Any]:
    """Question k has an answer of k + 1 letters, a token each, as far as the budget goes."""
    length = min(number + 1, budget)
    tokens = {"output_tokens": length, "reasoning_tokens": 0, "answer_tokens": length, "prompt_tokens": 5}
    times = {"sent": 0.0, "first_token": 1.0, "first_visible_token": 1.0, "last_token": float(length), "closed": 20.0}
    return {
        **KEYS,
        **START,
        **{"engine": engine, "dataset": "d", "load": "batch-12", "load_level": 12.0, "budget": budget},
        **{"repeat": repeat, "index": number, "batch": 0, "question_id": f"q{number}", "kind": "number"},
        **{"domain": "x", "difficulty": "easy", "seed": number, "status": "ok", **tokens, **times},
        # Where the last token falls on the budget, SGLang calls that the budget's end.
        "finish_reason": "length" if number + 1 + (engine == "sglang") > budget else "stop",
        **{"reasoning_source": "no reasoning parser", "reasoning_text": "", "answer_text": "abcdefghijkl"[:length]},
        **{"chunk_times": [float(k + 1) for k in range(length)], "chunk_tokens": [1] * length},
        **{"chunk_reasoning_chars": [0] * length, "chunk_answer_chars": [1] * length},
    }


def graded(rows: pa.Table) -> pa.Table:
    """The rows with their grades: an answer is right that was not cut, and says more than one letter."""
    right = [row["finish_reason"] == "stop" and len(row["answer_text"]) > 1 for row in rows.to_pylist()]
    values: dict[str, Any] = {"correct": right, "extracted": rows["answer_text"].to_pylist()}
    values |= {"failure_mode": [None if one else "wrong" for one in right], "grader": ["letter"] * len(right)}
    for name in GRADED:
        rows = rows.append_column(name, pa.array(values[name]))
    return rows


def files(folder: Path, engine: str = "vllm", invalid: str | None = None) -> dict[str, Any]:
    """What a server of two repeats has left; with `invalid`, the second is beyond a gate at the largest budget."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        asked(number, budget, repeat, engine)
        for repeat in (0, 1)
        for budget in (CHECKED, MEASURED)
        for number in range(QUESTIONS)
    ]
    measured = pa.Table.from_pylist(rows, schema=REQUESTS)
    source = pa.Table.from_pylist([row for row in rows if row["budget"] == MEASURED], schema=REQUESTS)
    at_check = pa.Table.from_pylist([row for row in rows if row["budget"] == CHECKED], schema=REQUESTS)
    source, at_check = (table.drop_columns("chunk_times") for table in (source, at_check))
    none = Vocabulary(folder)
    cut = [graded(cut_table(source, CHECKED, MEASURED, none)), graded(cut_table(at_check, DERIVED, CHECKED, none))]
    points = [
        {"dataset": "d", "load": "batch-12", "budget": budget, "repeat": repeat, "duration_s": 20.0, "validity": {}}
        | {"invalid": invalid if (budget, repeat) == (CHECKED, 1) else None}
        for budget in (CHECKED, MEASURED)
        for repeat in (0, 1)
    ]
    record: dict[str, Any] = {"server": KEYS | {"engine": engine}, "points": points, "model": {"path": str(folder)}}
    record["config"] = {"engine": engine, "options": {}, "sampling": {"temperature": 0.6}}
    pq.write_table(measured, folder / "requests.parquet")
    pq.write_table(pa.Table.from_pylist([], schema=SERVER), folder / "server.parquet")
    (folder / "run.json").write_text(json.dumps(record))
    keys = ["dataset", "load", "budget", "repeat", "index", "question_id"]
    pq.write_table(graded(measured).select([*KEYS, *keys, *GRADED]), folder / "grades.parquet")
    pq.write_table(pa.concat_tables(cut), folder / "derived.parquet")
    names = {"requests": "requests.parquet", "samples": "server.parquet", "records": "run.json"}
    names |= {"grades": "grades.parquet", "derived": "derived.parquet"}
    return {name: [folder / file] for name, file in names.items()}


def read(given: dict[str, list[Path]]) -> ServerData:
    requests, samples, records, grades, derived = given.values()
    return ServerData.read(requests, samples, records, grades, texts=True, derived=derived)


def server(folder: Path, **options: Any) -> ServerData:
    return read(files(folder, **options))


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return experiment_tables([server(tmp_path_factory.mktemp("run"))])


def test_a_derived_budget_has_what_was_said(tables: Tables) -> None:
    rows = tables.summary.set_index("budget")
    assert rows["derived_from"].to_dict() == {DERIVED: CHECKED, CHECKED: pytest.approx(np.nan, nan_ok=True)} | {
        MEASURED: pytest.approx(np.nan, nan_ok=True)
    }
    row = rows.loc[DERIVED]
    # Of answers of 1 to 12 letters the second alone ends within two tokens and is right.
    assert (row["num_requests"], row["accuracy"], row["answered_rate"]) == (24, pytest.approx(1 / 12), 1.0)
    assert (row["truncated_rate"], row["output_tokens_mean"]) == (pytest.approx(10 / 12), pytest.approx(23 / 12))
    assert row["accuracy_low"] < row["accuracy"] < row["accuracy_high"]


def test_a_derived_budget_has_no_times_rates_or_gauges(tables: Tables) -> None:
    over_starts = [name for name, metric in METRICS.items() if metric.units == "starts"]
    alone = ["ttft_p50", "energy", "preemptions", "kv_cache_usage_max", "gauge_samples", "ttfvt_horizon", "duration"]
    for frame in (tables.points, tables.starts, tables.summary, tables.difficulty, tables.domain):
        derived, measured = frame[frame["budget"] == DERIVED], frame[frame["budget"] != DERIVED]
        assert derived[[*over_starts, *alone]].isna().all(axis=None)
        assert measured["e2e_latency_mean"].notna().all()


def test_questions_of_a_derived_budget_are_counted(tables: Tables) -> None:
    rows = tables.questions[tables.questions["budget"] == DERIVED].set_index("question_id")
    assert (rows["derived_from"] == CHECKED).all() and len(rows) == QUESTIONS
    assert rows.loc[["q0", "q1", "q5"], "correct"].tolist() == [0, 2, 0]
    assert rows.loc[["q0", "q1", "q5"], "truncated"].tolist() == [0, 0, 2]


def test_a_measured_budget_is_not_derived(tables: Tables) -> None:
    assert tables.points.groupby("budget").size().to_dict() == {DERIVED: 2, CHECKED: 2, MEASURED: 2}


def test_what_is_cut_from_an_invalid_point_is_invalid(tmp_path: Path) -> None:
    found = experiment_tables([server(tmp_path, invalid="loop_lag_p99_s 90 ms, allowed 20 ms")])
    points = found.points.set_index(["budget", "repeat"])
    assert points.loc[(DERIVED, 1), "invalid"] == "under 4 tokens: loop_lag_p99_s 90 ms, allowed 20 ms"
    assert points["invalid"].isna().loc[(DERIVED, 0)]
    row = found.summary.set_index("budget").loc[DERIVED]
    assert (row["num_requests"], row["points"], row["invalid_points"]) == (QUESTIONS, 1, 1)


def test_servers_are_compared_under_a_derived_budget_but_not_their_times(tmp_path: Path) -> None:
    sides = [server(tmp_path / name, engine=name) for name in ("sglang", "vllm")]
    starts = experiment_tables(sides).starts
    rows = compare(sides[0], sides[1], Rules(noise_table(starts), starts, MARGINS))
    derived = rows[rows["budget"] == DERIVED].set_index("metric")
    assert (derived["derived_from"] == CHECKED).all()
    accuracy = derived.loc["accuracy"]
    assert (accuracy["value"], accuracy["baseline"]) == (0, pytest.approx(1 / 12))
    assert derived.loc["same_text", "value"] == 1
    assert derived.loc[[name for name in LATENCIES if name in derived.index], "ratio"].isna().all()
    assert "output_throughput" not in derived.index
    assert set(decompose(*sides)["budget"]) == {CHECKED, MEASURED}


@pytest.mark.parametrize(("engine", "draws"), [("vllm", "same"), ("sglang", "another sample")])
def test_a_measured_budget_is_set_beside_what_would_be_derived(tmp_path: Path, engine: str, draws: str) -> None:
    given = files(tmp_path, engine=engine)
    found = check_derived([(read(given), given["derived"])])
    whole, cell = found.iloc[0], found.iloc[1]
    assert (whole["model"], whole["engine"], whole["draws"], len(found)) == ("all", engine, draws, 2)
    assert (cell["budget"], cell["derived_from"], cell["num_requests"]) == (CHECKED, MEASURED, 24)
    assert (whole["identical_cells"], whole["cells"]) == (1, 1)
    assert cell[["same_verdict", "same_text", "same_end"]].tolist() == [1, 1, 1]
    right = (3 if engine == "vllm" else 2) / 12
    assert cell[["accuracy", "accuracy_derived", "accuracy_difference"]].tolist() == pytest.approx([right, right, 0])
    assert cell["accuracy_difference_low"] < 0 < cell["accuracy_difference_high"]


def test_disagreement_is_counted(tmp_path: Path) -> None:
    given = files(tmp_path)
    rows = pq.read_table(given["derived"][0]).to_pylist()
    for row in rows:
        if row["question_id"] == "q3" and row["budget"] == CHECKED:
            row |= {"answer_text": "other", "correct": False, "cut": "before-chunk"}
    pq.write_table(pa.Table.from_pylist(rows, schema=pq.read_schema(given["derived"][0])), given["derived"][0])
    cell = check_derived([(read(given), given["derived"])]).iloc[1]
    shares = cell[["same_text", "same_verdict", "cut_in_chunk_rate"]].tolist()
    assert shares == pytest.approx([11 / 12, 11 / 12, 1 / 12])
    assert (cell["identical_cells"], cell["accuracy_difference"]) == (0, pytest.approx(-1 / 12))
