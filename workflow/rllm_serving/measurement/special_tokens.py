"""Tokens that structure an output without being part of its texts, read from a model's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def think_close(model: Path) -> int | None:
    """Token id of `</think>` in the model's tokenizer; None when it is no single token."""
    return _added_tokens(model).get("</think>")


def end_of_sequence(model: Path) -> frozenset[int]:
    """Ids of the tokens at which an engine ends an answer: the model's and its tokenizer's; empty when none is told."""
    ids: set[int] = set()
    for name in ("generation_config.json", "config.json"):
        told = _read(model / name).get("eos_token_id")
        ids |= set(told) if isinstance(told, list) else set() if told is None else {told}
    token = _read(model / "tokenizer_config.json").get("eos_token")
    known = _added_tokens(model).get(token["content"] if isinstance(token, dict) else token or "")
    return frozenset(ids if known is None else ids | {known})


def _added_tokens(model: Path) -> dict[str, int]:
    return {token["content"]: token["id"] for token in _read(model / "tokenizer.json").get("added_tokens", [])}


def _read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
