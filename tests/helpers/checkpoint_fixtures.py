"""Checkpoints for the tests of quantization, as the headers of their files have them."""

from __future__ import annotations

from typing import Any

from conftest import ROOT

TEMPLATES = {
    kind: ROOT / f"resources/prompts/{name}.jinja" for kind, name in (("number", "arith"), ("choice", "facts"))
}


def tensor(dtype: str, *shape: int) -> dict[str, Any]:
    size = {"BF16": 2, "F8_E4M3": 1, "I8": 1, "I32": 4, "I64": 8}[dtype]
    for length in shape:
        size *= length
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [0, size]}


BEFORE = {
    "model.embed_tokens.weight": tensor("BF16", 1000, 256),
    "model.layers.0.norm.weight": tensor("BF16", 256),
    "model.layers.0.mlp.up_proj.weight": tensor("BF16", 512, 256),
    "lm_head.weight": tensor("BF16", 1000, 256),
}
PACKED = {
    "model.layers.0.mlp.up_proj.weight_packed": tensor("I32", 512, 32),
    "model.layers.0.mlp.up_proj.weight_scale": tensor("BF16", 512, 2),
    "model.layers.0.mlp.up_proj.weight_shape": tensor("I64", 2),
}
KEPT = {name: entry for name, entry in BEFORE.items() if "up_proj" not in name}
