"""Answers as they would have been under a smaller token budget: the stored ones, cut at so many output tokens.

A budget cuts an answer and changes nothing before the cut, so what is known of a request under a larger budget tells
what it would have said under a smaller one, wherever its draws are the same. Of times it tells nothing: these rows have
none. A chunk of a stream may hold several tokens (speculative decoding, a busy server). Where the cut lies within one,
its text is divided by the token ids that the engine streamed; without ids, or where they do not spell the text that
came, what came before that chunk is all that is taken, and `cut` says so: a little less text than the model would have
written, never more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from tokenizers import Tokenizer

from ..errors import UserError
from ..serving.engines import ENGINES

CHUNKS = ("chunk_tokens", "chunk_reasoning_chars", "chunk_answer_chars", "token_ids")
"""Columns of requests.parquet that say where the text of each chunk ends."""
WHOLE, AT_CHUNK, AT_TOKEN, BEFORE_CHUNK = "whole", "chunk", "token", "before-chunk"
"""Values of `cut`: not cut, for the answer ends within the budget; at the end of a chunk; within one, by its token ids;
within one whose text is left out."""
INCOMPLETE = "\ufffd"
"""What a decoder writes for bytes that are no whole character yet; engines hold them back."""
TEXTS = ("reasoning", "answer")


class CuttingError(UserError):
    """Answers of which it is not known where a smaller budget would have cut them."""


class Span(NamedTuple):
    """Output tokens that a text was made of.

    Attributes:
        start: number of tokens before the first.
        end: number of tokens up to the last.
    """

    start: int
    end: int


class Vocabulary:
    """The tokens of a model, to divide a chunk's text; without a tokenizer.json nothing can be divided.

    Args:
        folder: of the checkpoint; it need not be there any more.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "tokenizer.json"

    @cached_property
    def _tokenizer(self) -> Any:
        return Tokenizer.from_file(str(self._file)) if self._file.is_file() else None

    def text(self, ids: Sequence[int]) -> str | None:
        """Return what tokens spell, as far as its characters are whole; None where that is not known."""
        if self._tokenizer is None:
            return None
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True)).rstrip(INCOMPLETE)

    def spans(self, row: Mapping[str, Any]) -> dict[str, Span] | None:
        """Return the tokens of each of TEXTS of an answer; None where their ids are not known.

        Args:
            row: of requests.parquet.
        """
        ids = row["token_ids"]
        if not ids or len(ids) != row["output_tokens"] or self._tokenizer is None:
            return None
        close = self._tokenizer.token_to_id("</think>")
        if row["reasoning_source"] == "no reasoning parser":
            return {"reasoning": Span(0, 0), "answer": Span(0, len(ids))}
        if close is not None and close in ids:
            place = ids.index(close)
            return {"reasoning": Span(0, place), "answer": Span(place + 1, len(ids))}
        only, other = ("answer", "reasoning") if row["answer_text"] else ("reasoning", "answer")
        return {only: Span(0, len(ids)), other: Span(0, 0)}


def cut_table(requests: pa.Table, budget: int, source: int, vocabulary: Vocabulary) -> pa.Table:
    """Return the requests of a budget as they would have been under a smaller one, row by row.

    Args:
        requests: rows of requests.parquet under `source`, all columns but chunk_times.
        budget: tokens to cut at.
        source: the budget that they were measured under.
        vocabulary: of the model.

    Returns:
        The rows without CHUNKS, with `budget` changed: what would have been said, its token counts and finish reason;
        every time is null. More columns: derived_from (`source`), cut (see WHOLE), has_visible_text. Requests that
        failed stay so.

    Raises:
        CuttingError: when a stream did not count its tokens.
    """
    rows = [
        {**row, **cut_answer(row, budget, vocabulary), "budget": budget, "derived_from": source}
        for row in requests.to_pylist()
    ]
    names = [name for name in requests.schema.names if name not in CHUNKS]
    fields = [requests.schema.field(name) for name in names]
    return pa.Table.from_pylist(rows, schema=pa.schema([*fields, *DERIVED]))


DERIVED = [pa.field("derived_from", pa.int32()), pa.field("cut", pa.string()), pa.field("has_visible_text", pa.bool_())]
"""Columns that `cut_table` adds."""
TIMES = ("scheduled", "sent", "first_token", "first_visible_token", "last_token", "closed")


def cut_answer(row: Mapping[str, Any], budget: int, vocabulary: Vocabulary) -> dict[str, Any]:
    """Return what changes in a row of requests.parquet when its budget is smaller: texts, counts, finish reason, times.

    Args:
        row: of `cut_table`.
        budget: tokens to cut at.
        vocabulary: of the model.
    """
    changed: dict[str, Any] = dict.fromkeys(TIMES)
    texts = {name: row[f"{name}_text"] or "" for name in TEXTS}
    how = WHOLE
    if row["status"] == "ok" and _is_cut(row, budget):
        how, texts = _cut_texts(row, texts, budget, vocabulary)
        changed |= {"output_tokens": budget, "finish_reason": "length", **_cut_counts(row, budget)}
        if how != BEFORE_CHUNK and not texts["reasoning"] and changed["reasoning_tokens"]:
            changed["reasoning_tokens"] = 0  # without thinking text there is no thinking, see `RequestResult`
    changed |= {f"{name}_text": texts[name] for name in TEXTS}
    return changed | {"cut": how, "has_visible_text": bool(texts["answer"].strip())}


def _is_cut(row: Mapping[str, Any], budget: int) -> bool:
    """Whether the budget ends an answer: engines differ where it and the token that ends the answer coincide."""
    at_end = row["finish_reason"] == "stop" and ENGINES[row["engine"]].budget_ends_first
    return bool(row["output_tokens"] > budget or (at_end and row["output_tokens"] == budget))


def _cut_counts(row: Mapping[str, Any], budget: int) -> dict[str, int | None]:
    """Tokens of thinking and answer before the cut; `</think>` and what else stands between them is neither."""
    thinking, answer = row["reasoning_tokens"], row["answer_tokens"]
    ended = row["finish_reason"] == "stop"
    return {
        "reasoning_tokens": None if thinking is None else min(thinking, budget),
        "answer_tokens": None if answer is None else max(0, budget - (row["output_tokens"] - answer - ended)),
    }


def _cut_texts(
    row: Mapping[str, Any], texts: Mapping[str, str], budget: int, vocabulary: Vocabulary
) -> tuple[str, dict[str, str]]:
    """How an answer was cut, and its texts before the cut."""
    counted = row["chunk_tokens"] or []
    # A chunk of which nothing was told belongs to the next that tells: its tokens are counted there.
    upto = list(accumulate(count or 0 for count in counted))
    if not upto or upto[-1] != row["output_tokens"]:
        raise CuttingError(
            f"{row['experiment']}/{row['engine']}/{row['model']}, {row['dataset']}: a stream did not say how many "
            "tokens came with each chunk, so its answer cannot be cut; list all of the experiment's budgets as measured"
        )
    inside = [place for place, count in enumerate(counted) if count is not None and upto[place] <= budget]
    last = inside[-1] if inside else -1
    whole = {name: sum(row[f"chunk_{name}_chars"][: last + 1]) for name in TEXTS}
    before = {name: texts[name][: whole[name]] for name in TEXTS}
    if last >= 0 and upto[last] == budget:
        return AT_CHUNK, before
    following = next(place for place in range(last + 1, len(counted)) if upto[place] > budget)
    ends = {name: sum(row[f"chunk_{name}_chars"][: following + 1]) for name in TEXTS}
    pieces = {name: texts[name][whole[name] : ends[name]] for name in TEXTS}
    divided = _divided(row, pieces, budget, upto[following], vocabulary)
    if divided is None:
        return BEFORE_CHUNK, before
    return AT_TOKEN, {name: before[name] + divided[name] for name in TEXTS}


def _divided(
    row: Mapping[str, Any], pieces: Mapping[str, str], budget: int, chunk_end: int, vocabulary: Vocabulary
) -> dict[str, str] | None:
    """The part of a chunk's texts that its tokens before the cut spell; None where that cannot be told.

    pieces: the chunk's part of each of TEXTS; chunk_end: number of output tokens up to its end.
    """
    spans = vocabulary.spans(row)
    if spans is None:
        return None
    parts = {}
    for name, piece in pieces.items():
        start, end = spans[name]
        spelt = [vocabulary.text(row["token_ids"][start : max(start, min(end, upto))]) for upto in (budget, chunk_end)]
        at_cut, through = spelt
        if at_cut is None or through is None or not (through.startswith(at_cut) and through.endswith(piece)):
            return None
        parts[name] = piece[: max(0, len(piece) - (len(through) - len(at_cut)))]
    return parts
