"""Every mistake in a config is one line that names the key and says what is allowed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.studies import REMOVED, TINY, changed, dry_run, load, write
from rllm_serving.study.config_errors import ConfigError

HUB = {"source": "hub", "role": "llm", "pair": "x", "id": "owner/name", "revision": "main"}
GSM8K = {"source": "hub", "prompt": "number", "format": "gsm8k", "id": "openai/gsm8k", "revision": "a" * 40}
BATCH = {"type": "batch", "size": 2}

# What is changed in a good config, and what the line must hold: the key, then what is allowed.
CASES: dict[str, tuple[list[tuple[str, Any]], list[str]]] = {
    "unknown engine": ([("engines", ["vllm", "tgi"])], ["engines: ", "'tgi'", "vllm"]),
    "engine that the study does not use": (
        [("engines", ["vllm"]), ("experiments.budget.engines", ["sglang"])],
        ["experiments.budget.engines: ", "'sglang'", "allowed: vllm"],
    ),
    "unknown model": (
        [("experiments.budget.models", ["tiny-llm", "tiny-rlm"])],
        ["experiments.budget.models: ", "'tiny-rlm'", "allowed: tiny-llm, tiny-rllm"],
    ),
    "draft as a model to measure": (
        [("models.d", {"source": "micro", "role": "draft"}), ("experiments.budget.models", ["d"])],
        ["experiments.budget.models: ", "'d'", "allowed: tiny-llm, tiny-rllm"],
    ),
    "only drafts": (
        [("models", {"d": {"source": "micro", "role": "draft"}}), ("experiments.single", REMOVED)],
        ["experiments.budget.models: ", "none"],
    ),
    "unknown dataset": (
        [("experiments.budget.datasets", ["easy", "gsm8k"])],
        ["experiments.budget.datasets: ", "'gsm8k'", "allowed: easy, facts"],
    ),
    "option that an engine has not": (
        [("serving.scheduling", "longest-prefix")],
        [
            *("setups.baseline.scheduling", "vLLM 0.32.0 has no 'longest-prefix'"),
            *("fcfs, shortest-prompt", "on_unsupported: mark"),
        ],
    ),
    "derived budget without a larger measured one": (
        [("experiments.budget.budgets", {"measured": [16, 32], "derived": [24, 48]})],
        ["experiments.budget.budgets.derived.1: ", "48", "below 32", "experiments.budget.budgets.measured"],
    ),
    "budget that is both measured and derived": (
        [("experiments.budget.budgets", {"measured": [16, 32], "derived": [16]})],
        ["experiments.budget.budgets.derived.0: ", "16 is measured already"],
    ),
    "derived budgets alone": (
        [("experiments.budget.budgets", {"derived": [16]})],
        ["experiments.budget.budgets: ", "'measured'", "below `context_length`"],
    ),
    "measured budget of a mapping beyond the context": (
        [("experiments.budget.budgets", {"measured": [16, 1000], "derived": [500]})],
        ["experiments.budget.budgets: ", "1000 does not fit"],
    ),
    "speculation without a draft model": (
        [("serving.speculative", "draft")],
        ["setups.baseline.draft_model", "'None'"],
    ),
    "unknown scheduling": ([("serving.scheduling", "fair")], ["serving.scheduling: ", "'fair'", "shortest-prompt"]),
    "unknown setup": (
        [("experiments.budget.setups", ["fast"])],
        ["experiments.budget.setups: ", "'fast'", "allowed: baseline"],
    ),
    "unknown quantization": (
        [("experiments.budget.quantizations", ["fp7"])],
        ["experiments.budget.quantizations: ", "'fp7'", "allowed: bf16"],
    ),
    "quantization that nothing implements": (
        [("quantizations", {"fp7": {"method": "fp7"}})],
        ["quantizations.fp7.method: ", "'fp7'", "bf16, fp8, int8"],
    ),
    "list where only all is a word": (
        [("experiments.budget.models", "tiny-llm")],
        ["experiments.budget.models: ", "'tiny-llm'", "all or a list of names"],
    ),
    "prompt template that is not there": (
        [("datasets.easy.prompt", "haiku")],
        ["datasets.easy.prompt: ", "'haiku'", "arith"],
    ),
    "model without source": (
        [("models.tiny-llm.source", REMOVED)],
        ["models.tiny-llm: ", "'source'", "hub, path, micro"],
    ),
    "unknown source": ([("models.tiny-llm.source", "web")], ["models.tiny-llm.source: ", "'web'", "hub, path, micro"]),
    "unknown role": ([("models.tiny-llm.role", "lrm")], ["models.tiny-llm.role: ", "'lrm'", "llm, rllm, draft"]),
    "hub model without revision": (
        [("models.x", {k: v for k, v in HUB.items() if k != "revision"})],
        ["models.x: ", "'revision'", "commit"],
    ),
    "hub model without owner": ([("models.x", {**HUB, "id": "name"})], ["models.x.id: ", "'name'", "owner/name"]),
    "model with a path and from the hub": (
        [("models.x", {**HUB, "path": "x"})],
        ["models.x: ", "'path'", "source hub", "remove"],
    ),
    "path model without path": (
        [("models.x", {"source": "path", "role": "llm", "pair": "x"})],
        ["models.x: ", "'path'", "folder of a checkpoint"],
    ),
    "model path that is not there": (
        [("models.x", {"source": "path", "role": "llm", "pair": "x", "path": "no/such"})],
        ["models.x.path: ", "no/such", "existing"],
    ),
    "dataset path that is not there": (
        [("datasets.x", {"source": "path", "prompt": "number", "format": "gsm8k", "path": "no/such.jsonl"})],
        ["datasets.x.path: ", "no/such.jsonl", "existing"],
    ),
    "rllm without reasoning parser": (
        [("models.tiny-rllm.reasoning_parser", REMOVED)],
        ["models.tiny-rllm: ", "'reasoning_parser'", "deepseek-r1, qwen3"],
    ),
    "unknown reasoning parser": (
        [("models.tiny-rllm.reasoning_parser", "r1")],
        ["models.tiny-rllm.reasoning_parser: ", "'r1'", "deepseek-r1, qwen3"],
    ),
    "llm without pair": ([("models.tiny-llm.pair", REMOVED)], ["models.tiny-llm: ", "'pair'", "same name"]),
    "pair of two llms": (
        [("models.other", TINY["models"]["tiny-llm"])],
        ["models.tiny-llm.pair: ", "'other'", "one llm and one rllm"],
    ),
    "tensor parallel that does not divide the heads": (
        [("serving.tensor_parallel", 3)],
        ["serving.tensor_parallel", "'tiny-llm'", "3", "4 attention heads", "1, 2, 4"],
    ),
    "tensor parallel of one setup": (
        [("setups", {"wide": {"tensor_parallel": 8}}), ("experiments.single.setups", ["wide"])],
        ["serving.tensor_parallel", "setup 'wide'", "8", "1, 2, 4"],
    ),
    "budget above the context": (
        [("experiments.budget.budgets", [16, 512])],
        ["experiments.budget.budgets: ", "512", "serving.context_length 512"],
    ),
    "budget above one model's context": (
        [("models.tiny-llm.serving", {"context_length": 32})],
        ["experiments.budget.budgets: ", "32", "'tiny-llm'"],
    ),
    "more questions than the dataset has": (
        [("experiments.budget.num_questions", 9)],
        ["experiments.budget.num_questions: ", "9", "datasets.easy.num_questions gives 8", "up to 8"],
    ),
    "batch of more than there are questions": (
        [("experiments.budget.loads", [BATCH, {"type": "batch", "size": 5}])],
        ["experiments.budget.loads.1.size: ", "5", "up to 4"],
    ),
    "batches that do not come out even": (
        [("experiments.budget.loads", [BATCH, {"type": "batch", "size": 3}])],
        ["experiments.budget.loads.1.size: ", "3 does not divide the 4 requests to easy", "allowed: 1, 2, 4, or"],
    ),
    "batches of samples that do not come out even": (
        [("datasets.easy.n_samples", 15), ("experiments.budget.loads", [{"type": "batch", "size": 8}])],
        ["experiments.budget.loads.0.size: ", "the 60 requests to easy", "allowed: 1, 2, 3, 4, 5, 6, 10, 12, 15, 20, "],
    ),
    "same entry twice in a list": (
        [("experiments.budget.budgets", [16, 16])],
        ["experiments.budget.budgets: ", "twice"],
    ),
    "same load twice": ([("experiments.budget.loads", [BATCH, BATCH])], ["experiments.budget.loads: ", "twice"]),
    "text for a number": (
        [("experiments.budget.repeats", "3")],
        ["experiments.budget.repeats: ", "'3'", "whole number"],
    ),
    "fraction for a whole number": (
        [("experiments.budget.repeats", 3.0)],
        ["experiments.budget.repeats: ", "3.0", "whole"],
    ),
    "number for a list": ([("experiments.budget.budgets", 16)], ["experiments.budget.budgets: ", "16", "a list"]),
    "list for a mapping": ([("models", ["tiny-llm"])], ["models: ", "['tiny-llm']", "a mapping"]),
    "number for a name": ([("study", 2025)], ["study: ", "2025", "text"]),
    "empty list": ([("experiments.budget.budgets", [])], ["experiments.budget.budgets: ", "empty"]),
    "empty mapping": ([("models", {})], ["models: ", "empty"]),
    "section left blank": ([("datasets", None)], ["datasets: ", "nothing", "a mapping"]),
    "no experiments": ([("experiments", REMOVED)], ["the config: ", "'experiments'"]),
    "unknown key at the top": ([("experiment", {})], ["the config: ", "'experiment'", "experiments"]),
    "unknown key below": ([("serving.kv_tokens", 5)], ["serving: ", "'kv_tokens'", "kv_cache_tokens"]),
    "keys that are no text": ([("serving", {1: 2, "x": 4})], ["serving: ", "'x'", "context_length"]),
    "negative number": ([("experiments.budget.budgets", [-1])], ["experiments.budget.budgets.0: ", "-1", "from 1"]),
    "zero": (
        [("experiments.budget.loads", [{"type": "batch", "size": 0}])],
        ["experiments.budget.loads.0.size: ", "0", "from 1"],
    ),
    "no time at all": ([("measurement.request_timeout_s", 0)], ["measurement.request_timeout_s: ", "0", "above 0"]),
    "temperature out of range": ([("sampling.temperature", 2.5)], ["sampling.temperature: ", "2.5", "from 0, up to 2"]),
    "unknown load type": (
        [("experiments.budget.loads", [{"type": "burst", "size": 2}])],
        ["experiments.budget.loads.0.type: ", "'burst'", "batch, closed"],
    ),
    "name with a slash": ([("models.a/b", TINY["models"]["tiny-llm"])], ["models: ", "'a/b'", "letters, digits"]),
    "name that is a number": ([("datasets", {7: TINY["datasets"]["easy"]})], ["datasets: ", "7", "text"]),
    "micro dataset without suite": ([("datasets.easy.suite", REMOVED)], ["datasets.easy: ", "'suite'", "arith-easy"]),
    "dataset without prompt": ([("datasets.easy.prompt", REMOVED)], ["datasets.easy: ", "'prompt'"]),
    "path dataset without format": (
        [("datasets.x", {"source": "path", "prompt": "choice", "path": "gpqa.jsonl"})],
        ["datasets.x: ", "'format'", "gpqa"],
    ),
    "hub dataset at a branch": (
        [("datasets.x", {**GSM8K, "revision": "main"})],
        ["datasets.x.revision: ", "'main'", "40 hex"],
    ),
    "format of a generated set": (
        [("datasets.easy.format", "gsm8k")],
        ["datasets.easy: ", "'format'", "source micro", "remove"],
    ),
    "repeats beyond any plan": (
        [("experiments.budget.repeats", 2147483648)],
        ["experiments.budget.repeats: ", "2147483648", "from 1, up to 10,000,000"],
    ),
    "more points than can be planned": (
        [("experiments.budget.repeats", 1_000_000)],
        ["experiments.budget.repeats: ", "1,000,000 repeats x 2 models", "16,000,000 points; allowed: up to 100,000"],
    ),
    "more starts than can be planned": (
        [("experiments.budget.starts", 10_000_000)],
        ["experiments.budget.starts: ", "10,000,000 starts", "allowed: up to 100,000"],
    ),
    "a question asked without end": (
        [("datasets.easy.n_samples", 9_999_999), ("experiments.budget.loads", [{"type": "batch", "size": 8}])],
        ["experiments.budget.loads.0.size: ", "does not divide the 39999996 requests to easy"],
    ),
    "budget that leaves no room for a prompt": (
        [("experiments.budget.budgets", [511])],
        ["experiments.budget.budgets: ", "511", "serving.context_length 512", "a prompt of 16 tokens"],
    ),
    "name of two lines": ([("models.a\nb", TINY["models"]["tiny-llm"])], ["models: ", r"'a\nb'", "letters, digits"]),
    "name that ends with its line": (
        [("datasets.a\n", TINY["datasets"]["easy"])],
        ["datasets: ", r"'a\n'", "letters, digits"],
    ),
    "text of two lines": ([("datasets.easy.difficulty", "a\nb")], ["datasets.easy.difficulty: ", "text in one line"]),
    "name longer than files may be called": (
        [(f"datasets.{'a' * 65}", TINY["datasets"]["easy"])],
        ["datasets: ", "too long", "up to 64 characters"],
    ),
    "name of an unfinished run": (
        [("models", {**TINY["models"], "x.partial": TINY["models"]["tiny-llm"]})],
        ["models: ", "'x.partial'", "do not end in .partial"],
    ),
    "setup named as an unfinished run": ([("setups", {"x.partial": {}})], ["setups: ", "'x.partial'", "do not end in"]),
    "two loads of one name": (
        [("experiments.budget.loads", [{"type": "open", "burstiness": 1, "rate": rate} for rate in (1, 1.0000001)])],
        ["experiments.budget.loads.1: ", "'open-1rps-gamma1'", "experiments.budget.loads.0", "six digits"],
    ),
    "folder that holds no results": (
        [("compare_with", "/")],
        ["compare_with: / has no starts.parquet", "results"],
    ),
    "prefill steps smaller than what is decoded": (
        [("serving.prefill_chunk_tokens", 128), ("serving.max_running_requests", 200)],
        ["serving.prefill_chunk_tokens (model 'tiny-llm'", "128 are fewer than the 200", "allowed: 200 or more"],
    ),
    "prefill steps smaller than what is drafted": (
        [
            ("serving.prefill_chunk_tokens", 128),
            ("setups.s", {"speculative": "ngram"}),
            ("sampling.temperature", 0),
            ("experiments.budget.setups", ["baseline", "s"]),
        ],
        ["serving.prefill_chunk_tokens (model 'tiny-llm', setup 's'", "fewer than the 256", "allowed: 256 or more"],
    ),
    "less time than a server takes to start": ([("max_run_minutes", 5)], ["max_run_minutes: ", "5", "from 30"]),
    "unknown device": ([("device", "tpu")], ["device: ", "'tpu'", "auto, cpu, cuda"]),
}


@pytest.mark.parametrize(("changes", "parts"), CASES.values(), ids=CASES.keys())
def test_a_mistake_is_one_line_with_the_key_and_what_is_allowed(
    changes: list[tuple[str, Any]], parts: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(changed(*changes))
    line = str(caught.value)
    assert line.startswith(parts[0])
    assert all(part in line for part in parts), line
    assert "\n" not in line and len(line) < 300


def checkpoint(folder: Path, content: str) -> dict[str, Any]:
    (folder / "config.json").write_text(content)
    return {"source": "path", "role": "llm", "pair": "x", "path": str(folder), "serving": {"tensor_parallel": 4}}


@pytest.mark.parametrize("nested", [False, True])
def test_the_heads_of_a_local_checkpoint_are_known_before_it_is_served(tmp_path: Path, nested: bool) -> None:
    heads: dict[str, Any] = {"num_attention_heads": 14}
    spec = checkpoint(tmp_path, json.dumps({"text_config": heads} if nested else heads))
    with pytest.raises(ConfigError, match=r"4 does not divide .* 14 attention heads; allowed: 1, 2, 7, 14"):
        load(changed(("models.x", spec)))
    spec["serving"]["tensor_parallel"] = 7
    assert load(changed(("models.x", spec))).options("budget", "x", "baseline").tensor_parallel == 7


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    spec = checkpoint(tmp_path, "{")
    with pytest.raises(ConfigError, match=r"models\.x\.path: no readable .*config\.json"):
        load(changed(("models.x", spec)))
    (tmp_path / "config.json").unlink()
    with pytest.raises(ConfigError, match=r"models\.x\.path: no readable .*config\.json"):
        load(changed(("models.x", spec)))


THROUGH_SNAKEMAKE = ["rllm without reasoning parser", "model path that is not there", "unknown key below"]


@pytest.mark.parametrize(
    "name", ["unknown dataset", *(pytest.param(name, marks=pytest.mark.slow) for name in THROUGH_SNAKEMAKE)]
)
def test_snakemake_says_that_line_and_nothing_else(tmp_path: Path, name: str) -> None:
    changes, parts = CASES[name]
    said = dry_run(tmp_path, write(changed(*changes), tmp_path / "study.yaml"))
    assert "\n" not in said and said.startswith(f"Error in the config: {parts[0]}")
    assert all(part in said for part in parts)
