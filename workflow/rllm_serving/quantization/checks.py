"""Whether a quantized checkpoint is what it is called: as small as its method says, and still the same model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rllm_serving.grading.extraction import extract
from rllm_serving.models.checkpoints import ModelError
from rllm_serving.models.micro_solutions import END_THINK

SMALLEST, LARGEST = 0.9, 1.2
"""A layer may differ from its method's size by so much: scales count more in narrow layers."""
LEAST_EQUAL = 0.2
"""Share of bf16's answers that a quantized model must repeat: one below it is broken, not merely worse."""
Tensors = Mapping[str, Mapping[str, Any]]
"""As of `models.tensors`: name -> dtype, shape, data_offsets."""


def sizes(key: str, before: Tensors, after: Tensors, ratio: float) -> dict[str, Any]:
    """Compare the tensors of a quantized checkpoint (`after`) with those of its bf16 one.

    Returns layers (how many are quantized), kept (matrices of the layers that are not), bytes and bf16_bytes (of the
    quantized layers, scales included), ratio, expected_ratio. Raises ModelError, naming `key`, when nothing is
    quantized or the ratio is not the method's. Embeddings count nowhere: in tiny models they are most of the bytes.
    """
    parts: dict[str, int] = {}
    for name, tensor in after.items():
        layer = name.rpartition(".")[0]
        parts[layer] = parts.get(layer, 0) + _bytes(tensor)
    matrices = [n.removesuffix(".weight") for n, t in before.items() if n.endswith(".weight") and len(t["shape"]) == 2]
    quantized = [
        m for m in matrices if m in parts and not _equal_tensors(after.get(f"{m}.weight"), before[f"{m}.weight"])
    ]
    kept = [m for m in matrices if m not in quantized and ".layers." in m]
    if not quantized:
        raise ModelError(f"{key}: none of {len(matrices)} weight matrices is quantized; check its method")
    mine, theirs = sum(parts[m] for m in quantized), sum(_bytes(before[f"{m}.weight"]) for m in quantized)
    found = mine / theirs
    if not SMALLEST * ratio <= found <= LARGEST * ratio:
        raise ModelError(
            f"{key}: its {len(quantized)} quantized layers have {mine} bytes, {found:.3f} of the {theirs} in bf16; "
            f"its method gives about {ratio:.3f}: it is not what it is called"
        )
    return {
        "layers": len(quantized),
        "kept": len(kept),
        "bytes": mine,
        "bf16_bytes": theirs,
        "ratio": round(found, 4),
        "expected_ratio": round(ratio, 4),
    }


def agreement(key: str, kinds: Sequence[str], mine: Sequence[str], bf16: Sequence[str]) -> dict[str, Any]:
    """Compare greedy outputs (thinking included) of a quantized model with bf16's, question by question.

    Returns asked, answered (by bf16), equal_answers (share of those), equal_texts (share of all); raises ModelError,
    naming `key`, below LEAST_EQUAL. Where bf16 answers nothing, equal_answers is null and nothing is judged.
    """
    pairs = [(_answer(b, kind), _answer(m, kind)) for kind, m, b in zip(kinds, mine, bf16, strict=True)]
    answered = [(theirs, ours) for theirs, ours in pairs if theirs is not None]
    same = sum(theirs == ours for theirs, ours in answered)
    if answered and same < LEAST_EQUAL * len(answered):
        raise ModelError(
            f"{key}: of {len(answered)} held-out questions that bf16 answers, it gives the same greedy answer to "
            f"{same}, fewer than {LEAST_EQUAL:.0%}; more samples may help, or another method"
        )
    return {
        "asked": len(pairs),
        "answered": len(answered),
        "equal_answers": round(same / len(answered), 4) if answered else None,
        "equal_texts": round(sum(m == b for m, b in zip(mine, bf16, strict=True)) / len(pairs), 4),
    }


def _answer(text: str, kind: str) -> str | None:
    return extract(text.rpartition(END_THINK)[2], kind)


def _bytes(tensor: Mapping[str, Any]) -> int:
    start, end = tensor["data_offsets"]
    return end - start


def _equal_tensors(one: Mapping[str, Any] | None, other: Mapping[str, Any]) -> bool:
    return one is not None and (one["dtype"], one["shape"]) == (other["dtype"], other["shape"])
