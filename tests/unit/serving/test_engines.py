"""Engines as facts: command lines, environments, names; and what their numbers are called on a real page."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from rllm_serving.measurement import rows
from rllm_serving.serving.engines import ENGINES, Engine, Options, ServerConfig
from rllm_serving.serving.hardware import CPU_WITHOUT_AVX512

OPTIONS = Options(context_length=2048, kv_cache_tokens=8192, max_running_requests=16, tensor_parallel=2)
LAUNCH = ServerConfig(Path("env/bin/python"), Path("models/m"), None, "m", "cuda", OPTIONS, "deepseek-r1", False, 5)


def flags(launch: ServerConfig, engine: str = "vllm") -> dict[str, str | None]:
    """Flag -> value (None: it stands alone) of a command line after the module; no flag may come twice."""
    command = ENGINES[engine].command(launch, 4711)
    found: dict[str, str | None] = {}
    for word, following in zip(command, [*command[1:], "--"], strict=True):
        if word.startswith("--"):
            assert word not in found
            found[word] = None if following.startswith("--") else following
    return found


def with_options(device: str = "cuda", **options: object) -> ServerConfig:
    return replace(LAUNCH, device=device, options=replace(OPTIONS, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("engine", ENGINES.values(), ids=lambda engine: engine.name)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_engine_listens_on_loopback_alone_and_tells_all_columns(engine: Engine, device: str) -> None:
    command = engine.command(replace(LAUNCH, device=device), 4711)
    assert command[0] == "env/bin/python" and all(isinstance(word, str) for word in command)
    assert command[command.index("--host") + 1] == "127.0.0.1" and command[command.index("--port") + 1] == "4711"
    environment = engine.environment(replace(LAUNCH, device=device))
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert all(isinstance(text, str) for text in [*environment, *environment.values()])
    assert set(engine.metrics) < set(rows.SERVER.names)
    assert set(engine.values["reasoning_parser"]) == {"deepseek-r1", "qwen3"}
    assert ENGINES[engine.name] is engine


def test_vllm_on_a_gpu() -> None:
    found = flags(LAUNCH)
    expected = {
        "--model": "models/m",
        "--served-model-name": "m",
        "--dtype": "bfloat16",
        "--seed": "5",
        "--max-model-len": "2048",
        "--tensor-parallel-size": "2",
        "--max-num-seqs": "16",
        "--gpu-memory-utilization": "0.9",
        "--num-gpu-blocks-override": str(8192 // 16),
        "--reasoning-parser": "deepseek_r1",
        "--generation-config": "vllm",
        "--enable-prefix-caching": None,
    }
    assert found == found | expected
    assert not set(found) & {"--speculative-config", "--trust-remote-code", "--no-enable-chunked-prefill"}


def test_vllm_on_a_cpu_prefills_in_one_step_and_needs_no_share_of_a_gpu() -> None:
    found = flags(with_options("cpu", context_length=4096))
    assert found["--max-num-batched-tokens"] == "4096" and "--no-enable-chunked-prefill" in found
    assert found["--num-gpu-blocks-override"] == str(8192 // int(found["--block-size"] or 0))
    assert "--gpu-memory-utilization" not in found
    assert flags(with_options("cpu", context_length=512))["--max-num-batched-tokens"] == "2048"


def test_vllm_options_turned_the_other_way() -> None:
    found = flags(with_options(kv_cache_tokens=None, prefix_cache=False, kv_cache_dtype="fp8-e4m3"))
    assert "--no-enable-prefix-caching" in found and "--enable-prefix-caching" not in found
    assert found["--kv-cache-dtype"] == "fp8_e4m3"
    assert not set(found) & {"--num-gpu-blocks-override", "--block-size"}
    assert "--trust-remote-code" in flags(replace(LAUNCH, trust_remote_code=True))
    assert "--reasoning-parser" not in flags(replace(LAUNCH, reasoning_parser=None))


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ("ValueError: No available memory for the cache blocks. Try increasing", "serving.memory_share"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate", "Lower serving.memory_share"),
        ("api_server.py: error: unrecognized arguments: --no-such-flag", "rebuild the environment"),
        ("all is well", ""),
    ],
)
def test_vllm_advises_on_what_stands_in_its_log(line: str, advice: str) -> None:
    told = ENGINES["vllm"].advise(["INFO start", line, "INFO end"])
    assert advice in told and bool(told) == bool(advice)


def test_sglang_on_a_gpu() -> None:
    found = flags(LAUNCH, "sglang")
    expected = {
        "--model-path": "models/m",
        "--random-seed": "5",
        "--context-length": "2048",
        "--tensor-parallel-size": "2",
        "--max-running-requests": "16",
        "--mem-fraction-static": "0.9",
        "--max-total-tokens": "8192",
        "--reasoning-parser": "deepseek-r1",
        "--sampling-defaults": "openai",
        "--enable-metrics": None,
        "--schedule-policy": "fcfs",
        "--kv-cache-dtype": "auto",
    }
    assert found == found | expected
    assert not set(found) & {"--device", "--disable-radix-cache", "--speculative-algorithm", "--trust-remote-code"}
    assert "--disable-radix-cache" in flags(with_options(prefix_cache=False), "sglang")
    assert "--mem-fraction-static" not in flags(with_options("cpu"), "sglang")


def test_scheduling_has_one_name_and_each_engine_its_own() -> None:
    launch = with_options(scheduling="shortest-prompt")
    assert flags(launch)["--scheduling-policy"] == "priority"
    assert {"--enable-priority-scheduling", "--schedule-low-priority-values-first"} <= set(flags(launch, "sglang"))
    assert flags(with_options(scheduling="longest-prefix"), "sglang")["--schedule-policy"] == "lpm"


def test_speculation_by_the_text_and_by_a_model() -> None:
    ngram = with_options(speculation="ngram", speculative_tokens=4)
    assert json.loads(flags(ngram)["--speculative-config"] or "") == {
        **{"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_max": 4, "prompt_lookup_min": 1}
    }
    found = flags(ngram, "sglang")
    assert (found["--speculative-algorithm"], found["--speculative-num-draft-tokens"]) == ("NGRAM", "5")
    draft = replace(with_options(speculation="draft"), draft=Path("models/small"))
    assert json.loads(flags(draft)["--speculative-config"] or "") == {
        **{"method": "draft_model", "num_speculative_tokens": 3, "model": "models/small"}
    }
    found = flags(draft, "sglang")
    assert found["--speculative-draft-model-path"] == "models/small"
    assert (found["--speculative-num-steps"], found["--speculative-eagle-topk"]) == ("3", "1")


def test_what_an_engine_cannot_do_is_told_with_its_reason() -> None:
    def refusals(engine: str, *places: str, **options: object) -> dict[str, str]:
        served = asdict(replace(OPTIONS, **options)) | {"reasoning_parser": None}  # type: ignore[arg-type]
        return dict(ENGINES[engine].refusals(served, places))

    assert not any(refusals(engine, device) for engine in ENGINES for device in ("cpu", "cuda"))
    assert "needs CUDA" in refusals("sglang", "cpu", speculation="ngram")["speculation"]
    assert not refusals("sglang", "cuda", speculation="ngram")
    old = refusals("vllm", "cpu", CPU_WITHOUT_AVX512, kv_cache_dtype="fp8-e4m3")["kv_cache_dtype"]
    assert old.startswith("vLLM on cpu without AVX-512: ") and not refusals("vllm", "cpu", kv_cache_dtype="fp8-e4m3")
    told = refusals("vllm", "cuda", scheduling="longest-prefix")
    assert told == {"scheduling": "vLLM has no 'longest-prefix' here; it has fcfs, shortest-prompt"}
