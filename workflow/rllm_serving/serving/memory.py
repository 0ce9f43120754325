"""GPU memory of a server: what its weights take, and how many tokens the rest holds, the same on every engine.

A GPU's memory holds weights, the KV pool, and what the engine works with (activations, CUDA graphs, buffers). Engines
size the pool by rules of their own, which give different pools on the same GPU. Here one size is computed for all of
them: what the strictest engine has left beside the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import UserError
from .engines import ENGINES, Options

BF16_BYTES = 2
"""Every server is started with bfloat16."""
POOL_STEP = 1024
"""Tokens: a pool is a multiple of it, and so of every engine's block."""
SPARE_TOKENS = 64
"""Beside one whole context: vLLM keeps a block for itself."""
GIB = 2**30
_OTHER_CACHES = (
    *("kv_lora_rank", "layers_block_type", "hybrid_override_pattern", "attn_layer_period", "mamba_d_state"),
    *("linear_num_value_heads", "ssm_cfg", "attention_chunk_size"),
)
"""Keys of a config.json whose models keep something else than keys and values of every token in every layer."""


class GpuMemoryError(UserError):
    """A server does not fit its GPUs; the message names the key and what to do."""


@dataclass(frozen=True)
class KvShape:
    """What a token leaves in the KV cache: keys and values of every layer.

    Attributes:
        layers: number of layers.
        heads: KV heads of a layer.
        dimension: numbers of a head.
    """

    layers: int
    heads: int
    dimension: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> KvShape | None:
        """Read the shape from a checkpoint's config.json.

        None where the formula does not hold or is not known to: without a config, for latent attention (MLA), state
        spaces, and layers that do not attend to everything.
        """
        text: Mapping[str, Any] = config.get("text_config", config)
        windowed = bool(text.get("sliding_window")) and text.get("use_sliding_window", True)
        other = set(text.get("layer_types") or []) - {"full_attention"}
        layers, heads = text.get("num_hidden_layers"), text.get("num_attention_heads")
        dimension = text.get("head_dim") or (heads and text.get("hidden_size", 0) // heads)
        if windowed or other or any(text.get(name) for name in _OTHER_CACHES) or not (layers and heads and dimension):
            return None
        return cls(layers, text.get("num_key_value_heads") or heads, dimension)

    def bytes_per_token(self, kv_cache_dtype: str, tensor_parallel: int = 1) -> int:
        """Bytes of a token on one GPU of `tensor_parallel`; with more GPUs than KV heads each has one head.

        Args:
            kv_cache_dtype: as in `Options`.
            tensor_parallel: GPUs that the heads are split over.
        """
        heads = max(1, self.heads // tensor_parallel)
        return 2 * self.layers * heads * self.dimension * (1 if kv_cache_dtype.startswith("fp8") else BF16_BYTES)


@dataclass(frozen=True)
class KvPool:
    """The KV pool of a server, and what it was computed from (bytes are those of one GPU).

    Attributes:
        tokens: its size.
        bytes_per_token: of a token, a draft model's included.
        weight_bytes: the server's weights, a draft model's included.
        gpu_bytes: the GPU's memory.
        limit_bytes: engine -> what weights and pool may take together.
    """

    tokens: int
    bytes_per_token: int
    weight_bytes: int
    gpu_bytes: int
    limit_bytes: Mapping[str, int]

    @property
    def strictest(self) -> str:
        """The engine that leaves least."""
        return min(self.limit_bytes, key=lambda engine: self.limit_bytes[engine])


def loaded_bytes(record: Mapping[str, Any], config: Mapping[str, Any], ratio: float | None = None) -> int:
    """Bytes that a checkpoint's weights take once they are loaded, on all GPUs together.

    Args:
        record: its model.json (`models.checkpoints.describe`).
        config: its config.json.
        ratio: for weights that the engine quantizes while it loads them: bytes of a quantized layer over those in bf16.
            Embeddings and the output layer stay as they are.
    """
    # A checkpoint in float32 is loaded in bfloat16; the tensors of a quantized one are packed, its files say its size.
    parameters = record.get("parameters")
    whole: int = record["bytes"] if parameters is None else BF16_BYTES * parameters
    if ratio is None:
        return whole
    text = config.get("text_config", config)
    matrix = BF16_BYTES * text.get("vocab_size", 0) * text.get("hidden_size", 0)
    kept = min(whole, matrix * (1 if config.get("tie_word_embeddings") else 2))
    return round(kept + (whole - kept) * ratio)


def limits(gpu_bytes: int, options: Options) -> dict[str, int]:
    """Return what weights and KV pool may take together of one GPU: engine -> bytes."""
    return {name: int(engine.weights_and_pool(gpu_bytes, options)) for name, engine in ENGINES.items()}


def common_pool(gpu_bytes: int, weight_bytes: int, bytes_per_token: int, options: Options) -> KvPool:
    """Return the largest KV pool that every engine has room for beside the weights.

    Args:
        gpu_bytes: memory of the smallest of the server's GPUs.
        weight_bytes: of one GPU.
        bytes_per_token: of one GPU.
        options: `kv_cache_tokens` is the size where it is given.

    Raises:
        GpuMemoryError: when that holds less than one context, or the size that is given does not fit.
    """
    allowed = limits(gpu_bytes, options)
    room = max(0, (min(allowed.values()) - weight_bytes) // bytes_per_token)
    tokens = room // POOL_STEP * POOL_STEP if options.kv_cache_tokens is None else options.kv_cache_tokens
    pool = KvPool(tokens, bytes_per_token, weight_bytes, gpu_bytes, allowed)
    if tokens > room:
        raise GpuMemoryError(
            f"serving.kv_cache_tokens: {tokens:,} tokens do not fit: {_describe(pool, room)}; give up to "
            f"{room:,}, or raise serving.tensor_parallel"
        )
    if tokens < options.context_length + SPARE_TOKENS:
        raise GpuMemoryError(
            f"serving.context_length: one context of {options.context_length:,} tokens does not fit into the KV pool: "
            f"{_describe(pool, room)}; raise serving.tensor_parallel, lower serving.context_length or "
            "serving.prefill_chunk_tokens, or take GPUs with more memory"
        )
    return pool


def _describe(pool: KvPool, room: int) -> str:
    limit = pool.limit_bytes[pool.strictest]
    return (
        f"of {pool.gpu_bytes / GIB:.1f} GiB of a GPU, {pool.strictest} has {limit / GIB:.1f} for weights and KV pool; "
        f"the weights take {pool.weight_bytes / GIB:.1f}, which leaves room for {room:,} tokens of "
        f"{pool.bytes_per_token:,} bytes"
    )
