"""Streams of servers that are not ours: what OpenAI's API leaves open is taken as it comes, and nothing is guessed.

Beside `stream`, which reads what the engines send that the workflow starts. Here a stream may end without `[DONE]`, for
any reason, with its usage at the end or without any; tokens that nobody told are counted by the model's tokenizer where
there is one, and are missing where there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from ..serving.endpoints import hide
from .chunks import Chunk, Usage, texts_of
from .client import HttpExchange
from .sse import BYTE_ORDER_MARK, Event, events
from .stream import EMPTY_BLOCK, RequestResult, is_event_stream
from .stream_errors import told_reason
from .token_counter import TokenCounter

GIVEN_UP = frozenset({"abort", "aborted", "cancelled", "canceled", "error", "insufficient_system_resource"})
"""Finish reasons of requests that their server gave up; all others end an answer, and stay with it."""
OPENING, CLOSING = "<think>", "</think>"


class _Chunk(Chunk):
    model: str | None = None
    system_fingerprint: str | None = None


_decode = msgspec.json.Decoder(_Chunk).decode


@dataclass(frozen=True)
class Reading:
    """How answers are read.

    Attributes:
        parses_reasoning: whether thinking is told from answer.
        tags: whether that is by tags in the text; else by fields of their own.
        running_usage: whether the server was asked for the number of tokens so far with every chunk.
        counter: counts tokens that are not told; None: nothing does.
        key: what servers repeat when they refuse it, and no error shows.
    """

    parses_reasoning: bool = True
    tags: bool = False
    running_usage: bool = False
    counter: TokenCounter | None = None
    key: str | None = field(default=None, repr=False)

    def quote(self, said: bytes, length: int) -> str:
        """Return the beginning of what a server said, without the key."""
        return hide(said.decode("utf-8", "replace"), self.key)[:length]


@dataclass(slots=True)
class _Stream:
    """What came: of each event its time, texts and running total of tokens; and what came once."""

    stamps: list[float] = field(default_factory=list)
    thought: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    totals: list[int | None] = field(default_factory=list)
    usage: Usage | None = None
    ids: int = 0
    done: bool = False
    ended: float | None = None
    served: set[tuple[str | None, str | None]] = field(default_factory=set)


def decode(exchange: HttpExchange, reading: Reading) -> tuple[RequestResult, set[tuple[str | None, str | None]]]:
    """Interpret an ended exchange; never raises for what a server sent, but says so in status and error.

    Returns:
        the result, as `stream.decode` has it (tokens_source: "usage", "usage at the end", "usage at the end, chunks by
        tokenizer", "tokenizer" or None; reasoning_source: also "tokenizer"), and which (model, system fingerprint) the
        server said that it answered with.
    """
    outcome = RequestResult(http_status=exchange.http_status)
    if exchange.http_status not in (None, 200):
        outcome.status, outcome.error = "http", _refusal(exchange, reading)
        return outcome, set()
    if exchange.failure is None and not is_event_stream(exchange.content_type):
        text = reading.quote(b"".join(exchange.pieces), 200)
        outcome.status = "protocol"
        outcome.error = f"content type {exchange.content_type!r} is no stream of events (text/event-stream): {text}"
        return outcome, set()
    stream = _read(exchange, outcome, reading)
    if exchange.failure is not None:
        outcome.status, outcome.error = exchange.failure, exchange.error
    elif outcome.status == "ok" and not (stream.done or outcome.finish_reason):
        outcome.status, outcome.error = "truncated", "the stream ended without [DONE] and without a finish reason"
    elif outcome.status == "ok" and outcome.finish_reason in GIVEN_UP:
        outcome.status, outcome.error = "truncated", f"the server gave the request up: {outcome.finish_reason}"
    _fill(outcome, stream, reading)
    return outcome, stream.served


def _refusal(exchange: HttpExchange, reading: Reading) -> str:
    status = exchange.http_status
    if status in (301, 302, 303, 307, 308):
        place = reading.quote(exchange.location.encode(), 500) or "nowhere"
        return f"HTTP {status}: a redirect to {place}, which is not followed; give the address where it ends as url"
    text = reading.quote(b"".join(exchange.pieces), 500)
    return f"HTTP {status}{' (rate limit)' if status == 429 else ''}: {text}"


def _read(exchange: HttpExchange, outcome: RequestResult, reading: Reading) -> _Stream:
    """Return what the events hold; a fault among them ends it, and stands in `outcome`."""
    stream = _Stream()
    for event in events(exchange.stamps, exchange.pieces):
        if event.data.strip() == b"[DONE]":
            stream.done = True
            break
        chunk = _chunk(event, outcome, reading)
        if chunk is None:
            break
        _add(chunk, event.time, stream, outcome)
    return stream


def _chunk(event: Event, outcome: RequestResult, reading: Reading) -> _Chunk | None:
    """The chunk that an event carries; None where it carries none, and `outcome` then says why."""
    reason = told_reason(event)
    if reason is not None:
        outcome.status, outcome.error = "http", f"error within the stream: {hide(reason, reading.key)}"
        return None
    try:
        return _decode(event.data.removeprefix(BYTE_ORDER_MARK))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        told = reading.quote(event.data, 200)
        outcome.status, outcome.error = "protocol", f"not a completion chunk: {error}: {told!r}"
        return None


def _add(chunk: _Chunk, stamp: float, stream: _Stream, outcome: RequestResult) -> None:
    choices = chunk.choices or []
    thought, said, finish = texts_of(choices)
    outcome.finish_reason = finish or outcome.finish_reason
    stream.ids += sum(len(choice.token_ids or ()) for choice in choices)
    total = None if chunk.usage is None else chunk.usage.completion_tokens
    if total is not None:
        stream.usage = chunk.usage
    if thought or said or finish:
        stream.ended = stamp
    if chunk.model is not None or chunk.system_fingerprint is not None:
        stream.served.add((chunk.model, chunk.system_fingerprint))
    stream.stamps.append(stamp)
    stream.thought.append(thought)
    stream.said.append(said)
    stream.totals.append(total)


def _fill(outcome: RequestResult, stream: _Stream, reading: Reading) -> None:
    """Set times, texts and token counts."""
    if reading.tags and reading.parses_reasoning:
        stream.thought, stream.said = split_tags(stream.said)
    texts = list(zip(stream.thought, stream.said, strict=True))
    outcome.reasoning_text, outcome.answer_text = "".join(stream.thought), "".join(stream.said)
    if outcome.status == "ok":
        outcome.last_token = stream.ended
    outcome.first_visible_token = next(
        (stamp for stamp, said in zip(stream.stamps, stream.said, strict=True) if said.strip()), None
    )
    counts = _running(stream, texts) if reading.running_usage else None
    kept = [k for k, text in enumerate(texts) if any(text) or (counts is not None and counts[k])]
    outcome.chunk_times = [stream.stamps[k] for k in kept]
    outcome.first_token = outcome.chunk_times[0] if kept else None
    outcome.chunk_tokens = [None if counts is None else counts[k] for k in kept]
    outcome.chunk_reasoning_chars, outcome.chunk_answer_chars = (
        [len(pieces[k]) for k in kept] for pieces in (stream.thought, stream.said)
    )
    outcome.streamed_ids = stream.ids or None
    _count(outcome, stream, reading, kept, is_running=counts is not None)


def _running(stream: _Stream, texts: Sequence[tuple[str, str]]) -> list[int] | None:
    """Tokens that came with each event, by the running totals; None where an event with text tells no total."""
    counts, before = [], 0
    for text, total in zip(texts, stream.totals, strict=True):
        if total is None and any(text):
            return None
        counts.append(0 if total is None else total - before)
        before = before if total is None else total
    return counts if before else None


def _count(outcome: RequestResult, stream: _Stream, reading: Reading, kept: list[int], is_running: bool) -> None:
    usage = stream.usage
    if usage is not None:
        outcome.prompt_tokens, outcome.output_tokens = usage.prompt_tokens, usage.completion_tokens
        outcome.tokens_source = "usage" if is_running else "usage at the end"
    thought = said = None
    if reading.counter is not None:
        thoughts = reading.counter.per_piece([stream.thought[k] for k in kept])
        answers = reading.counter.per_piece([stream.said[k] for k in kept])
        thought, said = sum(thoughts), sum(answers)
        if not is_running:
            outcome.chunk_tokens = [sum(both) for both in zip(thoughts, answers, strict=True)]
            outcome.tokens_source = "tokenizer" if usage is None else "usage at the end, chunks by tokenizer"
        if usage is None and outcome.status == "ok":
            outcome.output_tokens = thought + said
    outcome.answer_tokens = said
    told = usage.completion_tokens_details if usage is not None else None
    if not reading.parses_reasoning:
        outcome.reasoning_tokens, outcome.reasoning_source = 0, "no reasoning parser"
    elif told is not None and told.reasoning_tokens is not None and (told.reasoning_tokens or not thought):
        # A server may count thinking that it does not show; one that shows thinking and counts none does not count it.
        outcome.reasoning_tokens, outcome.reasoning_source = told.reasoning_tokens, "usage"
    elif thought is not None and not _may_hide_thinking(outcome, thought, said or 0):
        outcome.reasoning_tokens, outcome.reasoning_source = thought, "tokenizer"
    if outcome.reasoning_source == "usage" and outcome.reasoning_tokens == 0 and outcome.reasoning_text:
        outcome.reasoning_tokens = outcome.reasoning_source = None


def _may_hide_thinking(outcome: RequestResult, thought: int, said: int) -> bool:
    """Whether no thinking was shown, and more tokens were generated than the answer has."""
    return not thought and (outcome.output_tokens or 0) - said > EMPTY_BLOCK


def split_tags(pieces: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return what each piece of a text has of thinking and of answer: thinking ends with `</think>`.

    Without it all is thinking, whether or not the text opens it: chat templates do so in the prompt.
    """
    whole = "".join(pieces)
    opened = len(whole) - len(whole.lstrip())
    begin = opened + len(OPENING) if whole.startswith(OPENING, opened) else 0
    closed = whole.find(CLOSING)
    end, answer = (len(whole), len(whole)) if closed < 0 else (closed, closed + len(CLOSING))
    thought, said = [], []
    start = 0
    for piece in pieces:
        stop = start + len(piece)
        thought.append(whole[max(start, begin) : min(stop, end)])
        said.append(whole[max(start, answer) : stop])
        start = stop
    return thought, said
