"""What engines tell of their options, from what the locked ones wrote when they served the micro model on a CPU."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from rllm_serving.serving import effective
from rllm_serving.serving.engines import ENGINES, Options, ServerConfig, Told

TOLD = ROOT / "tests" / "data" / "engines"
"""ENGINE-SERVER: lines of the log; the cache's info in the metrics (vLLM) or the answer at /server_info (SGLang)."""
SIZES = Options(context_length=512, kv_cache_tokens=4096, max_running_requests=16)
DRAFT = Path("models/micro-draft/checkpoint")
FP8 = {"kv_cache_dtype": "fp8-e4m3"}
NO_CACHE = {"prefix_cache": False}
SERVERS: dict[str, tuple[dict[str, Any], str]] = {
    "vllm-baseline": ({}, "bf16"),
    "vllm-draft-priority": (
        {"speculative": "draft", "draft_model": "d", "scheduling": "shortest-prompt", "kv_cache_tokens": None},
        "bf16",
    ),
    "vllm-int8-odd-pool": ({"context_length": 500, "kv_cache_tokens": 4100}, "int8"),
    "vllm-gptq-fp8-ngram-no-cache": (
        {"kv_cache_dtype": "fp8-e5m2", "speculative": "ngram", "speculative_tokens": 4, **NO_CACHE},
        "gptq-int4",
    ),
    "sglang-baseline": ({}, "bf16"),
    "sglang-fp8-torchao-priority": ({"scheduling": "shortest-prompt", **FP8}, "torchao-int8-weight"),
    "sglang-longest-prefix-no-cache": ({"scheduling": "longest-prefix", **NO_CACHE}, "torchao-int8-dynamic"),
    "sglang-small-pool": ({"context_length": 256, "kv_cache_tokens": 128, "max_running_requests": 100}, "bf16"),
}
"""What each was asked."""
CHANGED: dict[str, dict[str, Any]] = {
    "sglang-longest-prefix-no-cache": {"scheduling": "fcfs"},
    "sglang-small-pool": {"context_length": 128, "max_running_requests": 64},
}
"""What each ran with otherwise."""
CHOSEN: dict[str, dict[str, Any]] = {
    "vllm": {"kv_block_tokens": 32, "prefill_chunk_tokens": 2048, "chunked_prefill": False},
    "sglang": {"kv_block_tokens": 1, "prefill_chunk_tokens": 2048, "chunked_prefill": True}
    | {"overlap_scheduling": True, "attention_backend": "torch_native"},
}


def asked(server: str) -> ServerConfig:
    changes, method = SERVERS[server]
    draft = DRAFT if "draft_model" in changes else None
    options = replace(SIZES, **changes)
    return ServerConfig(Path("python"), Path("model"), draft, "m", "cpu", options, None, False, 7, method)


def told(server: str) -> Told:
    file = TOLD / server
    info, page = file.with_suffix(".json"), file.with_suffix(".metrics")
    return Told(
        info=json.loads(info.read_text()) if info.exists() else {},
        metrics=page.read_text() if page.exists() else "",
        log=file.with_suffix(".log").read_text(),
    )


def resolved(server: str, config: ServerConfig | None = None, **parts: Any) -> dict[str, Any]:
    return ENGINES[server.partition("-")[0]].resolved(config or asked(server), replace(told(server), **parts))


@pytest.mark.parametrize("server", SERVERS)
def test_every_option_is_told_and_only_what_the_engine_changed_differs(server: str) -> None:
    wanted, got = effective.asked(asked(server)), resolved(server)
    unknown = {name for name, value in wanted.items() if value is not None and got.get(name) is None}
    assert unknown <= {effective.HITS}
    found = {entry.option: entry.effective for entry in effective.differences(wanted, got)}
    assert found == CHANGED.get(server, {})
    assert set(got) <= set(wanted)


@pytest.mark.parametrize("server", ["vllm-baseline", "vllm-int8-odd-pool", "sglang-baseline", "sglang-small-pool"])
def test_what_no_config_sets_is_told_too(server: str) -> None:
    got, chosen = resolved(server), CHOSEN[server.partition("-")[0]]
    assert {name: got[name] for name in chosen} == chosen


def test_speculation_that_changes_the_scheduler_is_seen() -> None:
    assert resolved("vllm-baseline")["overlap_scheduling"] is None
    assert resolved("vllm-gptq-fp8-ngram-no-cache")["overlap_scheduling"] is False


def test_a_pool_that_is_left_to_the_engine_has_its_size_in_the_record() -> None:
    assert resolved("vllm-draft-priority")["kv_cache_tokens"] == 13107 * 128
    # 4100 tokens are 128 blocks; `kv_cache_size_tokens` is 4000, which is what eight contexts of 500 take.
    assert 'kv_cache_size_tokens="4000"' in told("vllm-int8-odd-pool").metrics
    assert resolved("vllm-int8-odd-pool")["kv_cache_tokens"] == 4096


def test_two_kinds_of_layers_share_vllms_pool() -> None:
    page = told("vllm-baseline").metrics.replace('kv_cache_max_concurrency="8.0"', 'kv_cache_max_concurrency="4.0"')
    assert resolved("vllm-baseline", metrics=page)["kv_cache_tokens"] == 2048


@pytest.mark.parametrize(
    "line",
    [
        "(EngineCore pid=1) INFO 1-1 1:1:1 [core.py:1] Disabling prefix caching: model has non-causal attention.",
        "(Worker pid=1) WARNING 1-1 1:1:1 [a.py:1] Disabling prefix caching for FLASHINFER/TRITON_MLA with batch ...",
        "(APIServer pid=1) INFO 1-1 1:1:1 [cpu.py:1] MLA: forcing chunked prefill and prefix caching to be disabled.",
    ],
)
def test_a_cache_that_vllms_core_turns_off_later_is_off(line: str) -> None:
    assert resolved("vllm-baseline", log=told("vllm-baseline").log + line)["prefix_cache"] is False


def test_weights_are_not_what_was_asked() -> None:
    another = replace(asked("vllm-int8-odd-pool"), quantization="bf16")
    assert resolved("vllm-int8-odd-pool", another)["quantization"] == "compressed-tensors"
    assert resolved("vllm-baseline", replace(another, quantization="int8"))["quantization"] == "bf16"
    another = replace(asked("sglang-baseline"), quantization="torchao-int8-weight")
    assert resolved("sglang-baseline", another)["quantization"] == "bf16"
    assert resolved("sglang-fp8-torchao-priority", another)["quantization"] == "torchao-int8-weight"
    another = replace(another, quantization="torchao-fp8-weight")
    assert resolved("sglang-fp8-torchao-priority", another)["quantization"] == "int8wo"
    # What SGLang loads from a checkpoint is in its log alone.
    log = told("sglang-baseline").log.replace("type=Qwen3ForCausalLM,", "type=Qwen3ForCausalLM, quant=fp8, fmt=e4m3,")
    assert resolved("sglang-baseline", log=log)["quantization"] == "fp8"
    assert resolved("sglang-baseline", replace(another, quantization="fp8"), log=log)["quantization"] == "fp8"


def test_a_checkpoint_that_brings_fp8_for_its_cache_is_seen() -> None:
    page = re.sub(r'(?<=[{,])cache_dtype="auto"', 'cache_dtype="fp8_e4m3"', told("vllm-baseline").metrics)
    assert resolved("vllm-baseline", metrics=page)["kv_cache_dtype"] == "fp8-e4m3"
    log = told("sglang-baseline").log.replace("torch.bfloat16", "torch.float8_e5m2")
    assert resolved("sglang-baseline", log=log)["kv_cache_dtype"] == "fp8-e5m2"


def test_another_draft_model_is_named_by_its_path() -> None:
    assert resolved("vllm-draft-priority")["draft_model"] == "d"
    another = replace(asked("vllm-draft-priority"), draft=Path("other"))
    assert resolved("vllm-draft-priority", another)["draft_model"] == str(DRAFT)


def test_sglangs_speculation_on_a_gpu() -> None:
    """Read in its sources: it has none on a CPU."""
    drafted = replace(SIZES, speculative="draft", speculative_tokens=3, draft_model="d")
    config = replace(asked("sglang-baseline"), draft=DRAFT, options=drafted)
    arguments = {"speculative_algorithm": "STANDALONE", "speculative_num_draft_tokens": 4}
    arguments |= {"speculative_draft_model_path": str(DRAFT), "disable_overlap_schedule": True}
    got = resolved("sglang-baseline", config, info={**told("sglang-baseline").info, "internal_states": [arguments]})
    assert (got["speculative"], got["speculative_tokens"], got["draft_model"]) == ("draft", 3, "d")
    assert got["overlap_scheduling"] is False


def test_the_scheduler_counts_before_the_arguments() -> None:
    info = told("sglang-baseline").info
    states = [{**info["internal_states"][0], "disable_radix_cache": True, "attention_backend": "triton"}]
    got = resolved("sglang-baseline", info={**info, "internal_states": states})
    assert got["prefix_cache"] is False and got["attention_backend"] == "triton"
    states[0] |= {"prefill_attention_backend": "fa3", "decode_attention_backend": "flashinfer"}
    got = resolved("sglang-baseline", info={**info, "internal_states": states})
    assert got["attention_backend"] == "fa3/flashinfer"


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_of_another_version_that_tells_nothing_known_is_not_known(engine: str) -> None:
    nothing = Told({}, "", "INFO all other words\n")
    config = asked(f"{engine}-baseline")
    assert set(ENGINES[engine].resolved(config, nothing).values()) == {None}
    assert effective.differences(effective.asked(config), ENGINES[engine].resolved(config, nothing)) == []


def test_lines_that_tell_of_changes() -> None:
    lines = effective.changes_told(told("vllm-gptq-fp8-ngram-no-cache").log)
    assert "Async scheduling not supported with ngram-based speculative decoding and will be disabled." in lines
    assert "Model Runner V2 requires Triton; using the V1 model runner instead." in lines
    assert not any(line.startswith("(") for line in lines)
    [reduced] = [line for line in effective.changes_told(told("sglang-small-pool").log) if "reduced" in line]
    assert reduced.startswith("max_running_requests was reduced from the requested 100 to 64")
