"""What SGLang runs with, as it says itself: its arguments as the scheduler has them (`/server_info`), and its log."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from . import told
from .base import ServerConfig
from .told import none_or

# Of the model itself: a draft model's lines come after it.
KV_DTYPE = re.compile(r"KV Cache is allocated\. dtype: (?:torch\.)?(\w+)")
WEIGHTS = re.compile(r"Load weight end\. .*?type=\w+,(?: quant=([\w-]+),)?")
KV_DTYPES = {"float8_e4m3fn": "fp8-e4m3", "float8_e5m2": "fp8-e5m2", "fp8_e4m3": "fp8-e4m3", "fp8_e5m2": "fp8-e5m2"}
SPECULATIVE = {None: "none", "NGRAM": "ngram", "STANDALONE": "draft", "EAGLE3": "eagle3"}
SCHEDULING = {"lpm": "longest-prefix", "lof": "longest-output"}
NEED_THE_CACHE = ("lpm", "dfs-weight")
"""Policies that the scheduler replaces by fcfs, without a word, where there is no prefix cache."""
CONTEXT_RESERVE = 6
"""Tokens by which the longest prompt that it takes is shorter than its context."""


def resolved(config: ServerConfig, info: Mapping[str, Any], log: str, online: str) -> dict[str, Any]:
    """Return the options that a server runs with, by our names; None where nothing says so.

    Args:
        config: what the server was started with.
        info: what `/server_info` answered; the scheduler's own state in it counts before the arguments.
        log: its log.
        online: its word for the method that was asked, where it quantizes by itself; else empty.
    """
    states = info.get("internal_states") or [{}]
    said: dict[str, Any] = {**info, **states[0]}
    memory = said.get("memory_usage") or {}
    no_cache, policy = said.get("disable_radix_cache"), said.get("schedule_policy")
    if no_cache and policy in NEED_THE_CACHE:
        policy = "fcfs"
    if policy == "fcfs" and said.get("enable_priority_scheduling"):
        policy = "shortest-prompt"
    kv_dtype = found.group(1) if (found := KV_DTYPE.search(log)) else said.get("kv_cache_dtype")
    loaded = WEIGHTS.search(log)
    by_itself = str(said.get("torchao_config") or said.get("quantization") or "")
    # Its arguments have what it quantizes by itself, its log what a checkpoint says.
    weights = by_itself or none_or(loaded, lambda match: match.group(1) or "")
    backends = [said.get(f"{part}_attention_backend") for part in ("prefill", "decode")]
    attention = dict.fromkeys(part or said.get("attention_backend") for part in backends)
    return {
        "context_length": _context(said),
        "tensor_parallel": said.get("tp_size"),
        "gpu_memory_fraction": said.get("mem_fraction_static"),
        "kv_cache_tokens": memory.get("token_capacity") or said.get("max_total_num_tokens"),
        "kv_cache_dtype": KV_DTYPES.get(str(kv_dtype), kv_dtype),
        "max_running_requests": said.get("effective_max_running_requests_per_dp"),
        "prefix_cache": none_or(no_cache, lambda off: not off),
        "scheduling": SCHEDULING.get(str(policy), policy),
        **_speculation(config, said),
        "dtype": said.get("dtype"),
        "quantization": none_or(weights, lambda word: told.weights(config, word, online)),
        "seed": said.get("random_seed"),
        "kv_block_tokens": said.get("page_size"),
        "prefill_chunk_tokens": said.get("chunked_prefill_size"),
        "chunked_prefill": none_or(said.get("chunked_prefill_size"), lambda size: size > 0),
        "overlap_scheduling": none_or(said.get("disable_overlap_schedule"), lambda off: not off),
        "attention_backend": "/".join(filter(None, attention)) or None,
    }


def _context(said: Mapping[str, Any]) -> int | None:
    """The argument, or less where the KV pool holds less than one context."""
    asked, longest = said.get("context_length"), said.get("max_req_input_len")
    if asked is None or longest is None:
        return asked
    return min(int(asked), int(longest) + CONTEXT_RESERVE)


def _speculation(config: ServerConfig, said: Mapping[str, Any]) -> dict[str, Any]:
    """It counts the token of the model itself as one more draft."""
    if "speculative_algorithm" not in said:
        return told.speculation()
    method = said["speculative_algorithm"]
    tokens = none_or(said.get("speculative_num_draft_tokens"), lambda number: number - 1)
    draft = told.draft_model(config, said.get("speculative_draft_model_path"))
    return told.speculation(SPECULATIVE.get(method, method), tokens, draft)
