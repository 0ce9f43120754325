"""The KV pool that every engine has room for, from numbers that one can check by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from rllm_serving.serving.engines import ENGINES, Options
from rllm_serving.serving.memory import GIB, POOL_STEP, GpuMemoryError, KvShape, common_pool, limits, loaded_bytes

QWEN_7B: dict[str, Any] = {
    **{"num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4, "hidden_size": 3584},
    **{"vocab_size": 152064, "sliding_window": 131072, "use_sliding_window": False, "tie_word_embeddings": False},
}
H100, OPTIONS = 80 * GIB, Options(context_length=32768)


def test_a_token_leaves_keys_and_values_of_each_layer() -> None:
    shape = KvShape.of(QWEN_7B)
    assert shape == KvShape(28, 4, 128)
    assert shape.bytes_per_token("auto") == 2 * 28 * 4 * 128 * 2 and shape.bytes_per_token("fp8-e4m3") == 28672
    # More GPUs than heads: each has one, and so a copy.
    assert [shape.bytes_per_token("auto", n) for n in (2, 4, 8)] == [28672, 14336, 14336]


@pytest.mark.parametrize(
    "other",
    [
        {"kv_lora_rank": 512},
        {"layer_types": ["full_attention", "linear_attention"]},
        {"sliding_window": 4096, "use_sliding_window": True},
        {"mamba_d_state": 128},
    ],
)
def test_caches_of_another_kind_have_no_shape(other: dict[str, Any]) -> None:
    assert KvShape.of(QWEN_7B | other) is None and KvShape.of({}) is None
    assert KvShape.of({"text_config": QWEN_7B}) == KvShape.of(QWEN_7B)


def test_weights_are_loaded_in_bfloat16_or_as_they_were_quantized() -> None:
    parameters = 7_615_616_512
    record = {"parameters": parameters, "bytes": 4 * parameters}
    assert loaded_bytes(record, QWEN_7B) == 2 * parameters  # stored in float32
    assert loaded_bytes({"parameters": None, "bytes": 5}, {}) == 5
    kept = 2 * 2 * 152064 * 3584
    assert loaded_bytes(record, QWEN_7B, 0.5) == kept + (2 * parameters - kept) // 2


def test_the_pool_is_what_the_strictest_engine_leaves_beside_the_weights() -> None:
    allowed = limits(H100, OPTIONS)
    # SGLang: 512 + 1.5 x 8192 + 2 x 256 + 128 + 8 x 64 MiB are reserved; vLLM: 3 + 2 GiB of its 72.
    assert allowed["vllm"] == pytest.approx((72 - 5) * GIB, abs=1)
    assert allowed["sglang"] == H100 - (512 + 12288 + 512 + 128 + 512) * 2**20
    pool = common_pool(H100, 15 * GIB, 57344, OPTIONS)
    assert pool.strictest == "sglang" and pool.tokens % POOL_STEP == 0
    assert 0 <= allowed["sglang"] - 15 * GIB - pool.tokens * 57344 < POOL_STEP * 57344
    small = common_pool(H100, 15 * GIB, 57344, replace(OPTIONS, prefill_chunk_tokens=2048, gpu_memory_fraction=0.8))
    assert small.strictest == "vllm" and small.limit_bytes["vllm"] == pytest.approx((64 - 3.5) * GIB, abs=1)


def test_no_engine_is_given_more_than_its_share_of_the_gpu() -> None:
    for fraction in (0.3, 0.5, 0.9, 1.0):
        for size in (24, 48, 80, 141, 180):
            for parallel in (1, 4, 8):
                options = Options(gpu_memory_fraction=fraction, tensor_parallel=parallel)
                assert all(limit < fraction * size * GIB for limit in limits(size * GIB, options).values())
    assert set(limits(H100, OPTIONS)) == set(ENGINES)


def test_a_pool_of_a_given_size_stays_so_if_it_fits() -> None:
    assert common_pool(H100, 15 * GIB, 57344, replace(OPTIONS, kv_cache_tokens=465_000)).tokens == 465_000
    with pytest.raises(GpuMemoryError, match=r"serving.kv_cache_tokens: 9,000,000 tokens do not fit: of 80.0 GiB .*up"):
        common_pool(H100, 15 * GIB, 57344, replace(OPTIONS, kv_cache_tokens=9_000_000))


def test_less_than_one_context_is_refused_with_what_to_do() -> None:
    with pytest.raises(GpuMemoryError, match=r"one context of 32,768 .*serving.tensor_parallel"):
        common_pool(H100, 141 * GIB, 327680, OPTIONS)
    with pytest.raises(GpuMemoryError, match=r"the weights take 15.0, which leaves room for [\d,]+ tokens of 57,344"):
        common_pool(24 * GIB, 15 * GIB, 57344, OPTIONS)
