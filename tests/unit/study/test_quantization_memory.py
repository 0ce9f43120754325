"""How many GPUs quantizing takes, from sizes of real models."""

from __future__ import annotations

import pytest
from rllm_serving.study.quantization_memory import fewest_gpus


@pytest.mark.parametrize(
    ("parameters", "token_bytes", "gibibytes", "gpus"),
    [
        (7.6e9, 57_344, 80, 1),
        (8e9, 131_072, 40, 1),
        (8e9, 131_072, 24, 2),
        (32.8e9, 262_144, 80, 2),
        (70.6e9, 327_680, 80, 3),
        (70.6e9, 327_680, 141, 2),
    ],
)
def test_a_model_is_held_in_bf16_with_its_texts(parameters: float, token_bytes: int, gibibytes: int, gpus: int) -> None:
    assert fewest_gpus(2 * parameters, token_bytes, gibibytes * 2**30) == gpus
