"""How many GPUs quantizing a model takes: fewer would send weights to the host's memory, and take days or fail."""

from __future__ import annotations

import math

from .quantization_methods import LONGEST_TEXT

AT_ONCE = 32
"""Prompts that the model continues at once, for its calibration texts and its checks."""
SPARE = 0.1
"""Of the weights: layers are not cut, so that GPUs are not filled to the last byte."""
WORKING_BYTES = 6 * 2**30
"""Of each GPU: CUDA, a layer's Hessians and activations while it is rounded."""


def fewest_gpus(weight_bytes: float, token_bytes: float, gpu_bytes: int) -> int:
    """Return the fewest GPUs that hold a model in bf16 while it writes and is quantized.

    Args:
        weight_bytes: its weights in bf16.
        token_bytes: a token's keys and values.
        gpu_bytes: memory of one GPU.
    """
    room = max(1, gpu_bytes - WORKING_BYTES)
    return max(1, math.ceil(((1 + SPARE) * weight_bytes + AT_ONCE * LONGEST_TEXT * token_bytes) / room))
