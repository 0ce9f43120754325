"""Checks of a quantized checkpoint: it has its method's size, and its answers are mostly those of the bf16 model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rllm_serving.grading.extraction import extract
from rllm_serving.models.checkpoints import ModelError
from rllm_serving.models.micro_solutions import END_THINK

MIN_SIZE, MAX_SIZE = 0.9, 1.2
"""Accepted sizes of quantized layers, relative to the method's: scales count more in narrow layers."""
MIN_EQUAL = 0.2
"""Share of bf16's answers that a quantized model must repeat; below it the checkpoint is taken to be broken."""
Tensors = Mapping[str, Mapping[str, Any]]
"""As of `checkpoints.tensors`: name -> dtype, shape, data_offsets."""


def sizes(key: str, before: Tensors, after: Tensors, ratio: float) -> dict[str, Any]:
    """Compare the tensors of a quantized checkpoint (`after`) with those of its bf16 one.

    Embeddings are left out: in tiny models they are most of the bytes.

    Args:
        key: config key for error messages.
        before: tensors of the bf16 checkpoint.
        after: tensors of the quantized checkpoint.
        ratio: bytes of a quantized layer / bytes in bf16, as the method has it.

    Returns:
        layers (quantized ones), kept (matrices in layers that stayed in bf16), bytes and bf16_bytes (of the quantized
        layers, scales included), ratio, expected_ratio.

    Raises:
        ModelError: when nothing is quantized or the ratio is not the method's.
    """
    parts: dict[str, int] = {}
    for name, tensor in after.items():
        layer = name.rpartition(".")[0]
        parts[layer] = parts.get(layer, 0) + _bytes(tensor)
    matrices = [n.removesuffix(".weight") for n, t in before.items() if n.endswith(".weight") and len(t["shape"]) == 2]
    quantized = [
        m for m in matrices if m in parts and not _equal_tensors(after.get(f"{m}.weight"), before[f"{m}.weight"])
    ]
    unquantized = [m for m in matrices if m not in quantized and ".layers." in m]
    if not quantized:
        raise ModelError(f"{key}: none of {len(matrices)} weight matrices is quantized; check its method")
    quantized_bytes = sum(parts[m] for m in quantized)
    bf16_bytes = sum(_bytes(before[f"{m}.weight"]) for m in quantized)
    measured_ratio = quantized_bytes / bf16_bytes
    if not MIN_SIZE * ratio <= measured_ratio <= MAX_SIZE * ratio:
        raise ModelError(
            f"{key}: its {len(quantized)} quantized layers have {quantized_bytes} bytes, {measured_ratio:.3f} of the "
            f"{bf16_bytes} in bf16; expected about {ratio:.3f} for its method: this checkpoint is not in that format"
        )
    return {
        "layers": len(quantized),
        "kept": len(unquantized),
        "bytes": quantized_bytes,
        "bf16_bytes": bf16_bytes,
        "ratio": round(measured_ratio, 4),
        "expected_ratio": round(ratio, 4),
    }


def agreement(key: str, kinds: Sequence[str], quantized: Sequence[str], bf16: Sequence[str]) -> dict[str, Any]:
    """Compare greedy outputs (thinking included) of a quantized model with bf16's, question by question.

    Args:
        key: config key for error messages.
        kinds: kind of answer of every question.
        quantized: outputs of the quantized model.
        bf16: outputs of the bf16 model.

    Returns:
        asked (questions), answered (by bf16), equal_answers (share of those; null where bf16 answers none),
        equal_texts (share of all).

    Raises:
        ModelError: when equal_answers is below MIN_EQUAL.
    """
    pairs = [(_answer(b, kind), _answer(q, kind)) for kind, q, b in zip(kinds, quantized, bf16, strict=True)]
    answered = [pair for pair in pairs if pair[0] is not None]
    same = sum(baseline == candidate for baseline, candidate in answered)
    if answered and same < MIN_EQUAL * len(answered):
        raise ModelError(
            f"{key}: of {len(answered)} held-out questions that bf16 answers, it gives the same greedy answer to "
            f"{same}, fewer than {MIN_EQUAL:.0%}; more samples may help, or another method"
        )
    return {
        "asked": len(pairs),
        "answered": len(answered),
        "equal_answers": round(same / len(answered), 4) if answered else None,
        "equal_texts": round(sum(q == b for q, b in zip(quantized, bf16, strict=True)) / len(pairs), 4),
    }


def _answer(text: str, kind: str) -> str | None:
    return extract(text.rpartition(END_THINK)[2], kind)


def _bytes(tensor: Mapping[str, Any]) -> int:
    start, end = tensor["data_offsets"]
    return end - start


def _equal_tensors(candidate: Mapping[str, Any] | None, baseline: Mapping[str, Any]) -> bool:
    return candidate is not None and all(candidate[name] == baseline[name] for name in ("dtype", "shape"))
