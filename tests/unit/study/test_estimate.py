"""What a study will take, from numbers that one can check by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.studies import REMOVED, changed, load
from rllm_serving.study import estimate as plan
from rllm_serving.study import plan_text
from rllm_serving.study.estimate import Plan
from unit.models.test_checkpoints import checkpoint, folder_of, safetensors

HUB = {"source": "hub", "id": "some/model", "revision": "main", "role": "llm", "pair": "big"}
BUDGET, STEPS = 100, 10
BIG: tuple[tuple[str, Any], ...] = (
    ("device", "cuda"),
    ("serving.context_length", 32768),
    ("models", {"big": {**HUB, "parameters_b": 10, "serving": {"tensor_parallel": 2}}}),
    ("experiments.single", REMOVED),
    ("experiments.budget.loads", [{"type": "batch", "size": 2}]),
    ("experiments.budget.budgets", [BUDGET]),
    ("experiments.budget.repeats", 3),
    ("experiments.budget.datasets", ["easy"]),
    ("experiments.budget.num_questions", 2 * STEPS),
    ("datasets.easy.num_questions", 2 * STEPS),
)
RUN = "budget/vllm/big/bf16/baseline/1"
# Both GPUs read half of the weights at each step; reading takes longer than computing for two requests.
STEP_S = 2 * 10e9 / plan.BANDWIDTH / 2 + plan.OVERHEAD_S
WARM_START_S = plan.START_S["cuda"] + plan.MORE_GPUS_S + 20e9 / plan.READING
# The first start compiles, and the server is started once more.
START_S = plan.COMPILING_S["cuda"] + 2 * WARM_START_S


def planned(*changes: tuple[str, Any]) -> Plan:
    return Plan(load(changed(*BIG, *changes)))


def test_a_batch_lasts_as_long_as_its_longest_answer() -> None:
    found = planned()
    estimate = found.run(found.study.runs[RUN])
    assert estimate is not None
    assert estimate.usual_h * 3600 == pytest.approx(START_S + (3 * STEPS + plan.WARM_UP_ROUNDS) * BUDGET * STEP_S)
    assert estimate.most_h == estimate.usual_h  # the budget is below what is usual


def test_only_the_first_start_of_a_server_compiles() -> None:
    def seconds(start: int, *changes: tuple[str, Any]) -> float:
        found = planned(("experiments.budget.starts", 2), *changes)
        estimate = found.run(found.study.runs[f"{RUN[:-1]}{start}"])
        assert estimate is not None
        return 3600 * estimate.usual_h

    first, second = seconds(1), seconds(2)
    assert first - second == pytest.approx(plan.COMPILING_S["cuda"] + WARM_START_S)
    assert seconds(1, ("measurement", {"restart_cold": False})) - second == pytest.approx(plan.COMPILING_S["cuda"])


def test_derived_budgets_cost_nothing() -> None:
    found = planned(("experiments.budget.budgets", {"measured": [BUDGET], "derived": [10, 50]}))
    assert found.work() == planned().work()


def test_beyond_what_is_usual_only_the_most_grows_with_the_budget() -> None:
    budget, longest = 20_000, plan.LONGEST * plan.USUAL["llm"]
    found = planned(("experiments.budget.budgets", [budget]))
    estimate = found.run(found.study.runs[RUN])
    assert estimate is not None
    assert estimate.usual_h * 3600 == pytest.approx(START_S + (3 * STEPS + plan.WARM_UP_ROUNDS) * longest * STEP_S)
    assert estimate.most_h * 3600 == pytest.approx(START_S + (3 * STEPS + plan.WARM_UP_ROUNDS) * budget * STEP_S)
    assert found.minutes(found.study.runs[RUN]) >= 90 * estimate.most_h


def test_many_at_once_are_limited_by_computing() -> None:
    size = 1000
    found = planned(
        ("experiments.budget.loads", [{"type": "closed", "size": size}]),
        ("experiments.budget.num_questions", size),
        ("datasets.easy.num_questions", size),
    )
    estimate = found.run(found.study.runs[RUN])
    step = 2 * 10e9 * size / plan.OPERATIONS / 2 + plan.OVERHEAD_S
    assert estimate is not None
    assert estimate.usual_h * 3600 == pytest.approx(START_S + (3 * 2 + plan.WARM_UP_ROUNDS) * BUDGET * step)


def test_a_stream_lasts_as_long_as_its_requests_come() -> None:
    load_ = {"type": "open", "rate": 0.5, "burstiness": 1}
    found = planned(("experiments.budget.loads", [load_]))
    estimate = found.run(found.study.runs[RUN])
    assert estimate is not None
    assert estimate.usual_h * 3600 > START_S + 3 * 2 * STEPS / 0.5


def test_the_table_counts_servers_gpus_requests_and_bytes() -> None:
    found = planned(("engines", ["vllm", "sglang"]))
    (row,) = found.work()
    assert (row["jobs"], row["points"], row["gpus"]) == (2, 6, 2)
    assert row["requests"] == 2 * 3 * 2 * STEPS
    assert row["gpu_usual_h"] == pytest.approx(2 * row["usual_h"])
    sizes = {line["what"]: line["bytes"] for line in found.downloads()}
    assert sizes == {"big": 20e9, "sglang-cuda": plan.ENVIRONMENT["cuda"], "vllm-cuda": plan.ENVIRONMENT["cuda"]}
    text = plan_text.text(found.work(), found.downloads())
    assert "budget" in text and "20.0" in text and "?" not in text


def test_what_is_not_known_is_no_number() -> None:
    found = planned(("models.big.parameters_b", REMOVED))
    assert found.run(found.study.runs[RUN]) is None
    (row,) = found.work()
    assert row["jobs"] == 1 and row["usual_h"] is None and row["gpu_most_h"] is None
    assert "?" in plan_text.text(found.work(), found.downloads())
    assert found.minutes(found.study.runs[RUN]) == 60 * plan.UNKNOWN_H


def test_one_checkpoint_under_two_names_is_fetched_once() -> None:
    again = {**HUB, "role": "rllm", "reasoning_parser": "qwen3", "thinking": True, "parameters_b": 10}
    found = planned(("models.thinker", again))
    sizes = {line["what"]: (line["kind"], line["bytes"]) for line in found.downloads()}
    assert sizes["big"] == ("download", 20e9) and sizes["thinker"] == ("the same as big", 0)


QUANTIZED: tuple[tuple[str, Any], ...] = (
    ("quantizations", {"w4": {"method": "gptq-int4", "dataset": "facts", "n_samples": 2 * plan.AT_ONCE}}),
    ("experiments.budget.quantizations", ["bf16", "w4"]),
)


def test_quantizing_is_work_and_needs_its_environment() -> None:
    found = planned(*QUANTIZED)
    row = next(row for row in found.work() if row["work"] == "quantizing models")
    assert (row["jobs"], row["gpus"], row["optional"]) == (1, 2, False)
    # Two batches of calibration texts, and the check's questions on the original and the quantized model.
    tokens = 4 * plan.LONGEST * plan.USUAL["llm"] * plan.GENERATE_STEP_S["cuda"]
    ratio = plan.METHODS["gptq-int4"].ratio
    assert ratio is not None
    reading = 2 * 10e9 * (1 + 2 * ratio) / plan.READING
    seconds = plan.IMPORTS_S + reading + plan.ROUNDING_S["cuda"] * 10e9 + tokens
    assert row["usual_h"] * 3600 == pytest.approx(seconds)
    assert row["most_h"] > row["usual_h"] and row["gpu_usual_h"] == pytest.approx(2 * row["usual_h"])
    assert "quantize-cuda" in [line["what"] for line in found.downloads()]
    ready = planned(*QUANTIZED, ("quantizations.w4.checkpoints", {"big": {"id": "a/b", "revision": "c"}}))
    row = next(row for row in ready.work() if row["work"] == "quantizing models")
    assert row["usual_h"] * 3600 == pytest.approx(
        plan.IMPORTS_S + reading - 2 * 10e9 * ratio / plan.READING + tokens / 2
    )
    assert {line["what"]: line["kind"] for line in ready.downloads()}["big w4"] == "download"


def test_optional_experiments_have_a_sum_of_their_own() -> None:
    again = {"models": ["tiny-rllm"], "budgets": [BUDGET], "loads": [{"type": "batch", "size": 2}], "optional": True}
    tiny = {"source": "micro", "role": "rllm", "pair": "tiny", "reasoning_parser": "qwen3"}
    found = planned(("models.tiny-rllm", tiny), ("experiments.budget.models", ["big"]), ("experiments.more", again))
    work = {row["work"]: row for row in found.work()}
    assert {name: row["optional"] for name, row in work.items()} == {
        "budget": False,
        "more": True,
        "training models": True,
    }
    optional = {line["what"] for line in found.downloads() if line["optional"]}
    assert optional == {"tiny-rllm", "train-cpu"}
    lines = plan_text.text(found.work(), found.downloads()).splitlines()
    sums = [line.split()[1] for line in lines if line.startswith("all")][:1]
    assert sums == ["1"] and [line.split()[3] for line in lines if line.startswith("optional, on top")][:1] == ["4"]


def test_a_model_in_a_folder_is_as_large_as_its_files(tmp_path: Path) -> None:
    """A checkpoint of some millions of parameters must not ask a cluster for the memory of 70 billion."""
    files = checkpoint() | {"model.safetensors": safetensors([1000, 2000], [3000])}
    folder = folder_of(tmp_path / "small", files)
    local = {"source": "path", "path": str(folder), "role": "llm", "pair": "big"}
    found = planned(("models", {"big": local}))
    run = found.study.runs[RUN]
    assert found.parameters("big") == 1000 * 2000 + 3000
    assert found.memory_mb(run) == plan.PROCESSES_MB + 4
    assert found.run(run) is not None
