"""The KV pool of a run's server on its GPUs: of one size on every engine, computed before the server starts."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..serving import hardware, memory
from ..serving.capability import check_kernels
from ..serving.memory import KvPool, KvShape
from ..study.design import Run
from ..study.quantization_methods import METHODS

log = logging.getLogger(__name__)


class KvPoolError(UserError):
    """A server has another KV pool than it was told to make."""


def pool_of(
    run: Run, model: Mapping[str, Any], draft: Mapping[str, Any] | None, gpu_uuids: tuple[str, ...]
) -> KvPool | None:
    """Compute the KV pool of a run's server from its GPUs' memory, its checkpoints and its options.

    None on the CPU, and for models whose cache is no plain keys and values: there the engine decides.

    Args:
        run: the run.
        model: contents of model.json.
        draft: the same of the model that proposes tokens.
        gpu_uuids: the server's GPUs.

    Raises:
        GpuMemoryError: when the server does not fit.
        KernelError: when the GPUs cannot compute with its weights' format.
    """
    if not gpu_uuids:
        return None
    gpus = hardware.describe(gpu_uuids)["gpus"]
    check_kernels([gpu["capability"] for gpu in gpus], run.engine, run.method)
    parallel, models = run.options.tensor_parallel, [model, *([draft] if draft else [])]
    configs = [_config(one) for one in models]
    shapes = [KvShape.of(config) for config in configs]
    sizes = [gpu["memory_bytes"] for gpu in gpus]
    known = [shape for shape in shapes if shape is not None]
    if len(known) < len(shapes) or not sizes:
        log.warning(
            "%s: its KV cache is no plain keys and values (config.json), so each engine sizes the pool by itself, and "
            "pools of two engines differ; serving.kv_cache_tokens sets one",
            run.folder,
        )
        return None
    each = [shape.bytes_per_token(run.options.kv_cache_dtype, parallel) for shape in known]
    # SGLang takes a draft's layers to be as large as the model's own.
    drafted = max([*each[1:], *(each[0] * shape.layers // known[0].layers for shape in known[1:])], default=0)
    ratios = [METHODS[run.method].loaded_ratio, *(None for _ in models[1:])]
    weights = [memory.loaded_bytes(*parts) for parts in zip(models, configs, ratios, strict=True)]
    pool = memory.common_pool(min(sizes), -(-sum(weights) // parallel), each[0] + drafted, run.options)
    log.info("KV pool of %d tokens (%s has the least room)", pool.tokens, pool.strictest)
    return pool


def describe(pool: KvPool | None, reported: int | None) -> dict[str, Any] | None:
    """Describe a pool for run.json: what was computed, and `reported_tokens`, the size that the server's log says.

    Raises:
        KvPoolError: when the server made a smaller pool: pools of two engines would differ without a word.
    """
    if pool is None:
        return None if reported is None else {"reported_tokens": reported}
    if reported is not None and reported < pool.tokens - memory.SPARE_TOKENS:
        raise KvPoolError(
            f"serving.gpu_memory_fraction: the server found room for {reported:,} tokens in its KV pool, not for the "
            f"{pool.tokens:,} that both engines were to have; end what else uses the GPU, or set "
            f"serving.kv_cache_tokens to {reported // memory.POOL_STEP * memory.POOL_STEP} for all engines"
        )
    return {**asdict(pool), "reported_tokens": reported}


def comparable_kind(session: Mapping[str, Any]) -> tuple[object, ...]:
    """What must be the same for points of two sessions to stand in one run: machine, GPUs, size of the KV pool."""
    return *hardware.comparable_kind(session["hardware"]), (session.get("kv_pool") or {}).get("tokens")


def _config(model: Mapping[str, Any]) -> dict[str, Any]:
    file = Path(model["path"]) / "config.json"
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return content
