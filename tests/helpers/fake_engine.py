"""An engine class that starts the mock server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar

from helpers.mock_server import PROGRAM
from rllm_serving.serving.engines import ENGINES, Engine, Options, ServerConfig, Told

# From the page of vLLM 0.32 under load, without speculation; `_created` twins and look-alikes left in.
METRICS_PAGE = b"""\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 31.0
vllm:num_requests_waiting{engine="0",model_name="m"} 17.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 17.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="deferred"} 0.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.9803921568627451
# TYPE vllm:prefix_cache_queries_total counter
vllm:prefix_cache_queries_total{engine="0",model_name="m"} 9120.0
vllm:prefix_cache_queries_created{engine="0",model_name="m"} 1.795508713337559e+09
vllm:prefix_cache_hits_total{engine="0",model_name="m"} 6080.0
vllm:num_preemptions_total{engine="0",model_name="m"} 42.0
vllm:prompt_tokens_total{engine="0",model_name="m"} 9120.0
vllm:prompt_tokens_by_source_total{engine="0",model_name="m",source="local_compute"} 3040.0
vllm:prompt_tokens_cached_total{engine="0",model_name="m"} 6080.0
vllm:generation_tokens_total{engine="0",model_name="m"} 28698.0
"""
METRIC_VALUES = {
    "kv_cache_usage": 0.9803921568627451,
    "running": 31.0,
    "waiting": 17.0,
    "preemptions": 42.0,
    "prefix_queries": 9120.0,
    "prefix_hits": 6080.0,
    "spec_drafted": None,
    "spec_accepted": None,
    "spec_steps": None,
    "prompt_tokens": 9120.0,
    "generated_tokens": 28698.0,
}


class FakeEngine(Engine):
    """Starts the mock server, or another program."""

    name = title = "fake"
    module = "json"
    flush_path = "/reset_prefix_cache"
    metrics = ENGINES["vllm"].metrics
    kernels: ClassVar[Mapping[str, str]] = {"listener": r"^(\w+)$"}
    pool_tokens = r"KV cache size: (\d+)"
    counts_think_close = False
    values: ClassVar[Mapping[str, Mapping[str, str]]] = {}
    refused: ClassVar[Mapping[tuple[str, str, str], str]] = {}
    advice: ClassVar[Mapping[str, str]] = {}

    def __init__(self, *arguments: object, program: str | None = None) -> None:
        self.arguments, self.program = [str(a) for a in arguments], program
        self.runs_with: dict[str, Any] = {}  # options that it runs with, whatever it was asked

    def resolved(self, config: ServerConfig, told: Told) -> dict[str, Any]:
        return {**asdict(config.options), **self.runs_with} if self.runs_with else {}

    def command(self, config: ServerConfig, port: int) -> list[str]:
        if self.program is not None:
            return [str(config.python), "-c", self.program]
        return [*PROGRAM, "--port", str(port), *self.arguments]

    def weights_and_pool(self, gpu_bytes: int, options: Options) -> float:
        return options.gpu_memory_fraction * gpu_bytes

    def has_flushed(self, answer: bytes) -> bool:
        return ENGINES["vllm"].has_flushed(answer)

    def environment(self, config: ServerConfig) -> dict[str, str]:
        return {"FAKE_ENGINE": "here"}
