"""From the bytes of a streamed chat completion to times, texts and token counts.

Decoding happens after the stream has ended; an event's time is that of the piece that completed it (see `sse`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from .chunks import Chunk, Usage, texts_of
from .client import HttpExchange
from .sse import BYTE_ORDER_MARK, Event, events
from .stream_errors import told_reason

UNDECODED = frozenset("ĠĊ▁")
"""How vocabularies write a space and a line end: they stand in a text only where tokens were not decoded."""

_decode = msgspec.json.Decoder(Chunk).decode
_DONE = b"[DONE]"
EMPTY_BLOCK = 4
"""Tokens that a block of no thinking may have: both tags, and the white space between and behind them, which parsers
take away; also the parts of one character, which shows only when it is whole."""


@dataclass(slots=True)
class _Phases:
    """Where thinking ended, by the chunks of a stream. Numbers of output tokens.

    before_last_thought: before the last chunk with thinking; until_answer: up to the first chunk of the answer, with
    it; without_text: in chunks without text before that one. told: whether all chunks with text told their tokens.
    """

    before_last_thought: int = 0
    until_answer: int | None = None
    without_text: int = 0
    told: bool = True

    def add(self, thought: str, said: str, before: int, tokens: int | None) -> None:
        """Take a chunk's texts, the tokens before it, and its own."""
        if thought or said:
            self.told = self.told and tokens is not None
        elif self.until_answer is None:
            self.without_text += tokens or 0
        if thought:
            self.before_last_thought = before
        if said and self.until_answer is None:
            self.until_answer = before + (tokens or 0)


@dataclass(slots=True)
class RequestResult:
    """What one request came to. Times are seconds on the exchange's clock; None is "never happened" or "not told".

    status: ok, http, timeout, connection, protocol or truncated; everything but ok is a failure with its reason in
    `error`. A failed request keeps the chunks that came, but never finished. chunk_times, chunk_tokens: one entry a
    chunk that carried tokens or text; chunk_reasoning_chars, chunk_answer_chars: how many characters of either text
    came with it, whose running sums are where its texts end. token_ids: of the output, empty where the engine streams
    none. first_visible_token: first chunk of the answer (not of the thinking) with a visible character.
    reasoning_tokens and answer_tokens count neither `</think>` nor the token that ends the output; thinking that was
    never closed counts whole; without thinking text there are no thinking tokens. reasoning_source says where
    reasoning_tokens is from: "token_ids" (counted up to `</think>`), "usage" (the engine's count; the whole output when
    the budget cut the thinking), "no thinking text", or "no reasoning parser" (the engine was not told to separate: all
    is answer). streamed_ids: number of token ids that came. streamed_reasoning: thinking tokens by the chunks that they
    came with, as near to reasoning_tokens as the chunks allow; without thinking text, the tokens that came or were
    counted as thinking and were not shown; None where the chunks do not tell.
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
    streamed_reasoning: int | None = None
    tokens_source: str | None = None
    reasoning_source: str | None = None
    reasoning_text: str = ""
    answer_text: str = ""

    @property
    def undecoded(self) -> bool:
        """Whether what the model said has a character of UNDECODED."""
        return not UNDECODED.isdisjoint(self.reasoning_text) or not UNDECODED.isdisjoint(self.answer_text)


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
    if exchange.failure is None and not is_event_stream(exchange.content_type):
        outcome.status = "protocol"
        text = b"".join(exchange.pieces)[:200].decode("utf-8", "replace")
        outcome.error = f"content type {exchange.content_type!r} is not text/event-stream: {text}"
        return outcome
    phases = _Phases()
    done = _read(exchange, outcome, phases)
    ids = outcome.token_ids
    outcome.streamed_ids = len(ids) or None
    if exchange.failure is not None:
        # A reason that the server gave says more than how the connection ended after it.
        told = f"{outcome.error}; then: " if outcome.status == "http" else ""
        outcome.status = "http" if told else exchange.failure
        outcome.error = f"{told}{exchange.error}"
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
        ended = outcome.finish_reason == "stop" and (not known or not eos or known[-1] in eos)
        closed = parses_reasoning and _count_thinking(outcome, known, think_close, counts_think_close)
        if not parses_reasoning:
            outcome.reasoning_tokens, outcome.reasoning_source = 0, "no reasoning parser"
        if outcome.reasoning_tokens is not None:
            outcome.answer_tokens = max(0, outcome.output_tokens - outcome.reasoning_tokens - closed - ended)
        if parses_reasoning:
            _compare_with_text(outcome, outcome.output_tokens - ended, phases)
    return outcome


def is_event_stream(content_type: str) -> bool:
    """Whether a Content-Type names server-sent events; media types have no case."""
    return content_type.partition(";")[0].strip().lower() == "text/event-stream"


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
    counted, output = outcome.reasoning_tokens, outcome.output_tokens or 0
    if counted is None:
        return False
    if outcome.answer_text and not outcome.reasoning_text and counted >= output:
        # Without `</think>` SGLang counts every token as thinking, also where its parser says that all is answer.
        counted = 0
    closed = not never_closed and bool(outcome.answer_text) and counted > 0
    counted -= closed and counts_think_close
    if outcome.finish_reason == "length" and not outcome.answer_text:
        counted = output
    outcome.reasoning_tokens, outcome.reasoning_source = counted, "usage"
    return closed


def _compare_with_text(outcome: RequestResult, tokens: int, phases: _Phases) -> None:
    """Set streamed_reasoning, and reasoning_tokens to 0 where there is no thinking text.

    tokens: of the output, without the one that ends it.
    """
    counted = outcome.reasoning_tokens
    if not outcome.reasoning_text:
        unseen = max(min(counted or 0, tokens), phases.without_text if outcome.answer_text else tokens)
        outcome.streamed_reasoning = unseen if unseen > EMPTY_BLOCK else 0
        if counted != 0:
            outcome.reasoning_tokens, outcome.reasoning_source = 0, "no thinking text"
    elif counted is not None and phases.told:
        most = tokens if phases.until_answer is None else phases.until_answer
        outcome.streamed_reasoning = max(phases.before_last_thought, min(counted, most))


def _read(exchange: HttpExchange, outcome: RequestResult, phases: _Phases) -> bool:
    """Fill `outcome` and `phases` from the events; returns whether the stream was done."""
    reasoning: list[str] = []
    answer: list[str] = []
    counted = 0
    done = False
    for event in events(exchange.stamps, exchange.pieces):
        stamp, data, _ = event
        if data.strip() == _DONE:
            done = True
            break
        chunk = _chunk(event, outcome)
        if chunk is None:
            break
        choices = chunk.choices or []
        thought, said, finish = texts_of(choices)
        outcome.token_ids += (token for choice in choices for token in choice.token_ids or ())
        tokens = _count(chunk.usage, counted, outcome)
        if not choices and not counted:
            tokens = None  # the total of an engine without running usage, not what came with this chunk
        phases.add(thought, said, counted, tokens)
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


def _chunk(event: Event, outcome: RequestResult) -> Chunk | None:
    """The chunk that an event carries; None where it carries none, and `outcome` then says why."""
    chunk: Chunk | None = None
    problem = ""
    try:
        chunk = _decode(event.data.removeprefix(BYTE_ORDER_MARK))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        problem = f"not a completion chunk: {error}: {event.data[:200]!r}"
    if chunk is None or event.name or chunk.error is not None or not (chunk.choices or chunk.usage):
        reason = told_reason(event)
        if reason is not None:
            outcome.status, outcome.error = "http", f"error within the stream: {reason}"
            return None
    if chunk is None:
        outcome.status, outcome.error = "protocol", problem
    return chunk


def _count(usage: Usage | None, counted: int, outcome: RequestResult) -> int | None:
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
