"""Small steps from an engine's own words to our options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from .base import ServerConfig

Word = TypeVar("Word")
Read = TypeVar("Read")


def none_or(value: Word | None, read: Callable[[Word], Read]) -> Read | None:
    """Read what was told; None where nothing was."""
    return None if value is None else read(value)


def draft_model(config: ServerConfig, path: str | None) -> str | None:
    """Return the name of the proposing model that is at `path`; the path itself where it is another than was asked."""
    return config.options.draft_model if path is not None and path == str(config.draft) else path


def weights(config: ServerConfig, word: str, online: str = "") -> str:
    """Return the method that weights are quantized with: the one that was asked, if `word` can stand for it.

    Args:
        config: what was asked.
        word: what the engine calls the format that it loaded; empty: it is not quantized. Formats of checkpoints are
            wider than our methods: FP8 and INT8 both are "compressed-tensors".
        online: the engine's word for the method that was asked, where it quantizes by itself.
    """
    fits = word == online if online else bool(word) == (config.quantization != "bf16")
    return config.quantization if fits else word or "bf16"


def speculation(method: str | None = None, tokens: int | None = None, draft: str | None = None) -> dict[str, Any]:
    """Return the options of speculation, by our names."""
    return {"speculative": method, "speculative_tokens": tokens, "draft_model": draft}
