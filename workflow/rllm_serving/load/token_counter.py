"""Tokens of streamed texts by a model's own tokenizer, where its server does not tell them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from ..errors import UserError


class TokenizerError(UserError):
    """A tokenizer cannot be read."""


def tokenizer_file(path: str) -> Path:
    """Return the file that a path of the config means: itself, or the `tokenizer.json` in it."""
    found = Path(path).expanduser()
    return found / "tokenizer.json" if found.is_dir() else found


class TokenCounter:
    """Counts tokens.

    Args:
        path: a tokenizer.json, or its folder.

    Raises:
        TokenizerError: when it is none.
    """

    def __init__(self, path: str) -> None:
        from tokenizers import Tokenizer

        file = tokenizer_file(path)
        try:
            self._tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises nothing more precise
            raise TokenizerError(f"{file} is no tokenizer.json: {error}") from None

    def per_piece(self, pieces: Sequence[str]) -> list[int]:
        """Tokens of a text that came in pieces: of each piece those that it completed; they add up to the text's."""
        ends = list(accumulate(map(len, pieces)))
        counts = [0] * len(pieces)
        for start, end in self._tokenizer.encode("".join(pieces), add_special_tokens=False).offsets:
            counts[bisect_right(ends, max(start, end - 1))] += 1
        return counts
