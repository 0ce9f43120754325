"""What stands behind a condition's speed: prefix cache, preemptions, speculation by phase, bytes of the KV cache."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..serving.memory import KvShape
from .server_metrics import counter_delta

COUNTERS = ["prefix_hit_rate", "preemptions", "accepted_rate", "accepted_share"]
COUNTERS += [
    f"{name}_{phase}" for name in ("tokens_per_chunk", "accepted_per_step") for phase in ("thinking", "answer")
]
COUNTERS += ["kv_bytes_per_token"]


def counter_summary(
    samples: pd.DataFrame, requests: pd.DataFrame, chunks: pd.DataFrame, run: Mapping[str, Any]
) -> dict[str, float]:
    """COUNTERS of one condition; NaN where the engine has no such counter or nothing happened.

    samples: its rows of server.parquet; requests: of `latencies`; chunks: `Chunks.take` of those that ended well;
    run: run.json, or empty. Increases are summed over points.
    prefix_hit_rate: increase of prefix_hits / of prefix_queries (tokens), 0-1. preemptions: increase, requests.
    accepted_rate, accepted_share: see `acceptance`.
    tokens_per_chunk_{thinking,answer}: see `tokens_per_chunk_by_phase`. accepted_per_step_{thinking,answer}: tokens a
    chunk - 1: a step gives the accepted drafts and one token of the model's own. It takes a chunk for a step, which
    makes it too high where a busy server puts several steps into one chunk, and is NaN without speculation. It is no
    share: how many tokens were drafted in each phase no engine tells.
    kv_bytes_per_token: see `kv_bytes_per_token`.
    """
    result = {"prefix_hit_rate": _share(samples, "prefix_hits", "prefix_queries")}
    result |= {"preemptions": counter_delta(samples, "preemptions")}
    options: Mapping[str, Any] = run["config"]["options"] if run else {}
    result |= acceptance(samples, requests, run)
    own = 1.0 if options.get("speculative", "none") != "none" else math.nan
    for phase, tokens in tokens_per_chunk_by_phase(chunks, requests["reasoning_tokens"]).items():
        result |= {f"tokens_per_chunk_{phase}": tokens, f"accepted_per_step_{phase}": tokens - own}
    # Of a server that already runs there is no checkpoint here.
    path = Path(run["model"]["path"]) / "config.json" if "path" in run.get("model", {}) else None
    config = json.loads(path.read_text(encoding="utf-8")) if path is not None and path.is_file() else {}
    return result | {"kv_bytes_per_token": kv_bytes_per_token(config, options.get("kv_cache_dtype", "auto"))}


def acceptance(samples: pd.DataFrame, requests: pd.DataFrame, run: Mapping[str, Any]) -> dict[str, float]:
    """Return how many drafts were accepted; NaN without speculation, and where the engine does not tell.

    samples: rows of server.parquet of a condition; requests: its requests, with status; run: run.json, or empty.
    accepted_rate: accepted / drafted tokens, 0-1. Only of drafts that were made: on GPUs vLLM counts as many for
    every step of n-grams, found or not (its model runner V2), and SGLang does not count them.
    accepted_share: accepted drafts / output tokens, 0-1, the same on every engine. From vLLM's counter; of SGLang,
    whose counters are of ended requests, what is left of the output tokens without the model's own: one of each step
    that checked drafts (spec_steps) and one of each request's prefill.
    """
    options: Mapping[str, Any] = run["config"]["options"] if run else {}
    nothing = {"accepted_rate": math.nan, "accepted_share": math.nan}
    method = options.get("speculative", "none")
    generated = counter_delta(samples, "generated_tokens")
    if method == "none" or not generated > 0:
        return nothing
    accepted = counter_delta(samples, "spec_accepted")
    padded = method == "ngram" and run.get("device") == "cuda"
    rate = math.nan if padded else _share(samples, "spec_accepted", "spec_drafted")
    if math.isnan(accepted):
        accepted = generated - counter_delta(samples, "spec_steps") - (requests["status"] == "ok").sum()
    return {"accepted_rate": rate, "accepted_share": float(np.maximum(accepted, 0.0)) / generated}


def _share(samples: pd.DataFrame, part: str, whole: str) -> float:
    total = counter_delta(samples, whole)
    return counter_delta(samples, part) / total if total > 0 else math.nan


def tokens_per_chunk_by_phase(chunks: pd.DataFrame, reasoning_tokens: pd.Series) -> dict[str, float]:
    """Mean tokens a chunk while "thinking" and while giving the "answer"; NaN for a phase without chunks.

    reasoning_tokens: of each request, `row` of the chunks counts them. A chunk is thinking when it ends at or before
    the last thinking token, answer when it starts behind `</think>`; the one with `</think>` is neither. A request's
    first chunk is left out: prefill gives one token, drafted by nobody.
    """
    row, tokens = chunks["row"], chunks["tokens"]
    upto = tokens.groupby(row).cumsum()
    thought = reasoning_tokens.to_numpy(dtype=float)[row]
    later = upto > tokens
    phases = {"thinking": later & (upto <= thought), "answer": later & (upto - tokens >= thought + (thought > 0))}
    return {phase: float(tokens[chosen].mean()) if chosen.any() else math.nan for phase, chosen in phases.items()}


def kv_bytes_per_token(config: Mapping[str, Any], kv_cache_dtype: str) -> float:
    """Bytes that a token holds in the KV cache, on all devices: 2 x layers x KV heads x head dimension x bytes.

    config: the checkpoint's config.json; kv_cache_dtype: as in `engines.base.Options`. NaN where `KvShape.of` knows
    none, and for a checkpoint that sets its cache's format itself.
    """
    text = config.get("text_config", config)
    own = kv_cache_dtype == "auto" and (config.get("quantization_config") or {}).get("kv_cache_scheme")
    shape = KvShape.of(text)
    return math.nan if own or shape is None else float(shape.bytes_per_token(kv_cache_dtype))
