"""What vLLM runs with, as it says itself: the engine core's config line, its arguments, the metrics' info of the cache.

Its `/server_info` has all of it too, but starts CUDA in the API server's process to describe the machine: memory of the
GPU, and a process on it, that the server would not have had.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from . import told
from .base import ServerConfig
from .told import none_or

CONFIG = re.compile(r"Initializing a V1 LLM engine \(.*?\) with config: (.*)")
ARGUMENTS = re.compile(r"non-default args: (\{.*)")
CACHE = re.compile(r"^vllm:cache_config_info\{(.*)\} 1\.0$", re.MULTILINE)
SPECULATION = re.compile(
    r"speculative_config=(?:None|SpeculativeConfig\(method='(\w+)', model=(?:None|'(.*?)'), num_spec_tokens=(\d+)\))"
)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
# Said by the engine core or a worker after the config line, and told to nobody else.
CACHE_OFF = re.compile(r"disabling prefix caching|prefix caching (?:to be |will be |is )?disabled", re.IGNORECASE)
KV_DTYPES = {"fp8": "fp8-e4m3", "fp8_e4m3": "fp8-e4m3", "fp8_e5m2": "fp8-e5m2"}
SPECULATIVE = {"draft_model": "draft"}
SCHEDULING = {"priority": "shortest-prompt"}


def resolved(config: ServerConfig, log: str, page: str) -> dict[str, Any]:
    """Return the options that a server runs with, by our names; None where nothing says so.

    Batch limits and the scheduling policy are as vLLM's own parser read them: it changes neither after that.

    Args:
        config: what the server was started with.
        log: its log.
        page: its /metrics page.
    """
    line = CONFIG.search(log)
    core = line.group(1) if line else ""
    given = found.group(1) if (found := ARGUMENTS.search(log)) else ""
    cache = dict(LABEL.findall(found.group(1))) if (found := CACHE.search(page)) else {}

    def of_core(name: str) -> str | None:
        match = re.search(rf"(?:^|, ){name}=('[^']*'|[^,]*)", core)
        return match.group(1).strip("'") if match else None

    def of_arguments(name: str) -> str | None:
        match = re.search(rf"'{name}': '?([\w.-]+)", given)
        return match.group(1) if match else None

    dtype = none_or(of_core("dtype"), lambda text: text.removeprefix("torch."))
    kv_dtype = cache.get("cache_dtype") or of_core("kv_cache_dtype")
    prefix_cache = none_or(
        cache.get("enable_prefix_caching") or of_core("enable_prefix_caching"), lambda t: t == "True"
    )
    if prefix_cache and CACHE_OFF.search(log):
        prefix_cache = False
    policy = of_arguments("scheduling_policy") or ("fcfs" if given else None)
    weights = none_or(of_core("quantization"), lambda text: "" if text == "None" else text)
    return {
        "context_length": none_or(of_core("max_seq_len"), int),
        "tensor_parallel": none_or(of_core("tensor_parallel_size"), int),
        "gpu_memory_fraction": none_or(cache.get("gpu_memory_utilization"), float),
        "kv_cache_tokens": _pool(cache, of_core("max_seq_len")),
        "kv_cache_dtype": none_or(dtype if kv_dtype == "auto" else kv_dtype, lambda text: KV_DTYPES.get(text, text)),
        "max_running_requests": none_or(of_arguments("max_num_seqs"), int),
        "prefix_cache": prefix_cache,
        "scheduling": none_or(policy, lambda text: SCHEDULING.get(text, text)),
        **_speculation(config, core),
        "dtype": dtype,
        "quantization": none_or(weights, lambda word: told.weights(config, word)),
        "seed": none_or(of_core("seed"), int),
        "kv_block_tokens": none_or(cache.get("block_size"), int),
        "prefill_chunk_tokens": none_or(of_arguments("max_num_batched_tokens"), int),
        "chunked_prefill": none_or(of_core("enable_chunked_prefill"), lambda text: text == "True"),
        "overlap_scheduling": False if re.search(r"Async(?:hronous)? scheduling .*disabled", log) else None,
    }


def _pool(cache: Mapping[str, str], context: str | None) -> int | None:
    """Tokens of the KV pool.

    Its `kv_cache_size_tokens` is not that: it is what full contexts take, without what their last blocks leave over.
    Where layers differ (sliding windows) a request takes blocks of the pool for each kind of them.
    """
    try:
        blocks, size = int(cache["num_gpu_blocks"]), int(cache["block_size"])
        a_request = blocks / float(cache["kv_cache_max_concurrency"])
        needed = math.ceil(int(context or "") / size)
    except (KeyError, ValueError, ZeroDivisionError):
        return None
    return blocks * size if abs(a_request - needed) < 0.5 else int(blocks * size * needed / a_request)


def _speculation(config: ServerConfig, core: str) -> dict[str, Any]:
    match = SPECULATION.search(core)
    if match is None:
        return told.speculation()
    method, model, tokens = match.groups()
    if method is None:
        return told.speculation("none")
    return told.speculation(SPECULATIVE.get(method, method), int(tokens), told.draft_model(config, model))
