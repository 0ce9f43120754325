"""From the bytes of a streamed chat completion to times, texts and token counts.

Decoding happens after the stream has ended. Server-sent events are cut at line ends on bytes, so a chunk that splits
a UTF-8 character or a line is no special case; an event's time is that of the piece that completed it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from .client import HttpExchange


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    finish_reason: str | None = None
    token_ids: list[int] | None = None


class _Details(msgspec.Struct):
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    completion_tokens_details: _Details | None = None
    reasoning_tokens: int | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Chunk).decode
_DONE = b"[DONE]"


@dataclass(slots=True)
class RequestResult:
    """What one request came to. Times are seconds on the exchange's clock; None is "never happened" or "not told".

    status: ok, http, timeout, connection, protocol or truncated; everything but ok is a failure with its reason in
    `error`. A failed request keeps the chunks that came, but never finished. chunk_times, chunk_tokens: one entry a
    chunk that carried tokens or text; chunk_reasoning_chars, chunk_answer_chars: how many characters of either text
    came with it, whose running sums are where its texts end. token_ids: of the output, empty where the engine streams
    none. first_visible_token: first chunk of the answer (not of the thinking) with a
    visible character. reasoning_tokens and answer_tokens count neither `</think>` nor the token that ends the output;
    thinking that was never closed counts whole. reasoning_source says where reasoning_tokens is from: "token_ids"
    (counted up to `</think>`), "usage" (the engine's count; the whole output when the budget cut the thinking) or "no
    reasoning parser" (the engine was not told to separate: all is answer). streamed_ids: number of token ids that came.
    """

    status: str = "ok"
    error: str | None = None
    http_status: int | None = None
    finish_reason: str | None = None
    first_token: float | None = None
    first_visible_token: float | None = None
    last_token: float | None = None
    chunk_times: list[float] = field(default_factory=list)
    chunk_tokens: list[int | None] = field(default_factory=list)
    chunk_reasoning_chars: list[int] = field(default_factory=list)
    chunk_answer_chars: list[int] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    answer_tokens: int | None = None
    streamed_ids: int | None = None
    tokens_source: str | None = None
    reasoning_source: str | None = None
    reasoning_text: str = ""
    answer_text: str = ""


def events(stamps: Sequence[float], pieces: Sequence[bytes]) -> Iterator[tuple[float, bytes]]:
    """The `data:` payloads of a server-sent event stream, each with the time of the piece that completed it.

    Lines may end in LF or CRLF; several data lines of one event are joined with LF, comments and other fields are
    ignored. An event without data, or never completed by an empty line, is not yielded.
    """
    rest = b""
    data: list[bytes] = []
    for stamp, piece in zip(stamps, pieces, strict=True):
        lines = (rest + piece).split(b"\n")
        rest = lines.pop()
        for line in lines:
            line = line.removesuffix(b"\r")
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
            elif not line and data:
                if payload := b"\n".join(data):
                    yield stamp, payload
                data = []


def decode(
    exchange: HttpExchange,
    think_close: int | None = None,
    counts_think_close: bool = False,
    eos: frozenset[int] = frozenset(),
    parses_reasoning: bool = True,
) -> RequestResult:
    """Interpret an ended exchange; never raises for what a server sent, but says so in status and error.

    Args:
        exchange: what was received.
        think_close: token id of `</think>`, to count thinking where the engine streams token ids.
        counts_think_close: whether the engine's own reasoning token count, used otherwise, includes `</think>` (it is
            then taken off).
        eos: ids of the tokens that end an output; empty: not known, then every output that was not cut ends in one.
        parses_reasoning: whether the engine separates reasoning from answer.
    """
    outcome = RequestResult(http_status=exchange.http_status)
    if exchange.http_status not in (None, 200):
        # However the answer ended: a refusal may end with its connection, and its reason is in what came.
        text = b"".join(exchange.pieces)[:500].decode("utf-8", "replace")
        outcome.status, outcome.error = "http", f"HTTP {exchange.http_status}: {text}"
        return outcome
    if exchange.failure is None and not exchange.content_type.startswith("text/event-stream"):
        outcome.status = "protocol"
        text = b"".join(exchange.pieces)[:200].decode("utf-8", "replace")
        outcome.error = f"content type {exchange.content_type!r} is not text/event-stream: {text}"
        return outcome
    done = _read(exchange, outcome)
    ids = outcome.token_ids
    outcome.streamed_ids = len(ids) or None
    if exchange.failure is not None:
        outcome.status, outcome.error = exchange.failure, exchange.error
    elif outcome.status == "ok" and not (done and outcome.finish_reason):
        missing = "[DONE]" if outcome.finish_reason else "a finish reason"
        outcome.status, outcome.error = "truncated", f"the stream ended without {missing}"
    elif outcome.status == "ok" and outcome.finish_reason not in ("stop", "length"):
        outcome.status, outcome.error = "truncated", f"the engine gave the request up: {outcome.finish_reason}"
    elif outcome.status == "ok" and outcome.output_tokens is None:
        outcome.status, outcome.error = "protocol", "the stream carried no usage: tokens cannot be counted"
    if outcome.status != "ok":
        outcome.last_token = None
    if outcome.output_tokens is not None:
        known = ids if len(ids) == outcome.output_tokens else []
        closed = parses_reasoning and _count_thinking(outcome, known, think_close, counts_think_close)
        if not parses_reasoning:
            outcome.reasoning_tokens, outcome.reasoning_source = 0, "no reasoning parser"
        if outcome.reasoning_tokens is not None:
            ended = outcome.finish_reason == "stop" and (not known or not eos or known[-1] in eos)
            outcome.answer_tokens = max(0, outcome.output_tokens - outcome.reasoning_tokens - closed - ended)
    return outcome


def _count_thinking(outcome: RequestResult, ids: list[int], think_close: int | None, counts_think_close: bool) -> bool:
    """Set reasoning_tokens and their source; returns whether `</think>` is one of the output's tokens.

    ids: of all of its tokens, or none.
    """
    if think_close is not None and think_close in ids:
        # vLLM's own count misses thinking whose opening tag stands in the prompt, as chat templates put it.
        outcome.reasoning_tokens, outcome.reasoning_source = ids.index(think_close), "token_ids"
        return True
    never_closed = think_close is not None and bool(ids)
    if never_closed and not (outcome.reasoning_text and outcome.answer_text):
        outcome.reasoning_tokens, outcome.reasoning_source = 0 if outcome.answer_text else len(ids), "token_ids"
        return False
    if outcome.reasoning_tokens is None:
        return False
    closed = not never_closed and bool(outcome.answer_text) and outcome.reasoning_tokens > 0
    outcome.reasoning_tokens -= closed and counts_think_close
    if outcome.finish_reason == "length" and not outcome.answer_text:
        outcome.reasoning_tokens = outcome.output_tokens
    outcome.reasoning_source = "usage"
    return closed


def _read(exchange: HttpExchange, outcome: RequestResult) -> bool:
    """Fill `outcome` from the events; returns whether the stream said it was done."""
    reasoning: list[str] = []
    answer: list[str] = []
    counted = 0
    done = False
    for stamp, data in events(exchange.stamps, exchange.pieces):
        if data == _DONE:
            done = True
            break
        try:
            chunk = _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            outcome.status, outcome.error = "protocol", f"not a completion chunk: {error}: {data[:200]!r}"
            break
        if chunk.error is not None:
            outcome.status, outcome.error = "http", f"error within the stream: {str(chunk.error)[:500]}"
            break
        thought, said, finish = _texts(chunk)
        outcome.token_ids += (token for choice in chunk.choices for token in choice.token_ids or ())
        tokens = _count(chunk.usage, counted, outcome)
        if not chunk.choices and not counted:
            tokens = None  # the total of an engine without running usage, not what came with this chunk
        counted += tokens or 0
        reasoning.append(thought)
        answer.append(said)
        if thought or said or tokens:
            outcome.chunk_times.append(stamp)
            outcome.chunk_tokens.append(tokens)
            outcome.chunk_reasoning_chars.append(len(thought))
            outcome.chunk_answer_chars.append(len(said))
            outcome.first_token = stamp if outcome.first_token is None else outcome.first_token
        if outcome.first_visible_token is None and said.strip():
            outcome.first_visible_token = stamp
        if finish is not None:
            outcome.finish_reason = finish
        if thought or said or tokens or finish is not None:
            outcome.last_token = stamp
    outcome.reasoning_text, outcome.answer_text = "".join(reasoning), "".join(answer)
    return done


def _texts(chunk: _Chunk) -> tuple[str, str, str | None]:
    thought = said = ""
    finish = None
    for choice in chunk.choices:
        if choice.delta is not None:
            thought += choice.delta.reasoning or choice.delta.reasoning_content or ""
            said += choice.delta.content or ""
        finish = choice.finish_reason or finish
    return thought, said, finish


def _count(usage: _Usage | None, counted: int, outcome: RequestResult) -> int | None:
    """Tokens that came with a chunk, from the engine's running usage; None where it told nothing."""
    if usage is None or usage.completion_tokens is None:
        return None
    outcome.tokens_source = "usage"
    outcome.prompt_tokens, outcome.output_tokens = usage.prompt_tokens, usage.completion_tokens
    details = usage.completion_tokens_details
    reasoning_tokens = details.reasoning_tokens if details is not None else usage.reasoning_tokens
    if reasoning_tokens is not None:
        outcome.reasoning_tokens = reasoning_tokens
    return usage.completion_tokens - counted
