"""Streams as bytes: what was recorded from real vLLM, and pieces cut where it hurts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from helpers.sse_fixtures import ANSWER, CHUNKS, DONE, EOS, EVENTS, THINK_CLOSE, THOUGHTS, chunk, event, usage
from rllm_serving.load.client import HttpExchange
from rllm_serving.load.stream import RequestResult, decode


def _vllm(total: int, thought: int, finish: str | None = None, **delta: str) -> dict[str, Any]:
    told = {"prompt_tokens": 33, "total_tokens": 33 + total, "completion_tokens": total}
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish, "token_ids": None}
    return {
        "id": "chatcmpl-a817e0026bcf4e06",
        "object": "chat.completion.chunk",
        "created": 1795508513,
        "model": "m",
        "choices": [choice],
        "usage": told | {"completion_tokens_details": {"reasoning_tokens": thought}},
    }


# Recorded from vLLM 0.32 with a random model: thinking that a budget of 16 tokens cuts off. Its second token on starts
# with half a character; several tokens come in one event; the engine's own count of thinking misses most.
CUT = [
    event(_vllm(0, 0, role="assistant", content="")),
    event(_vllm(4, 1, reasoning="\ufffdp")),
    event(_vllm(8, 2, reasoning="\ufffdwer")),
    event(_vllm(9, 3, reasoning="~")),
    event(_vllm(16, 3, finish="length")),
    event(_vllm(16, 3) | {"choices": [], "system_fingerprint": "vllm-0.32.0-114fb1f9"}),
    DONE,
]


def exchange(pieces: Sequence[bytes], **changes: Any) -> HttpExchange:
    """An exchange that received piece i at second i."""
    whole: dict[str, Any] = {"http_status": 200, "content_type": "text/event-stream", "pieces": list(pieces)}
    return HttpExchange(0.0, **(whole | {"stamps": [float(i) for i in range(len(pieces))]} | changes))


def read(pieces: Sequence[bytes], **options: Any) -> RequestResult:
    return decode(exchange(pieces), **options)


def test_where_the_text_of_each_chunk_ends_is_kept() -> None:
    result = read(EVENTS, think_close=THINK_CLOSE)
    assert result.chunk_tokens == [2, 3, 1, 1, 2]
    assert result.chunk_reasoning_chars == [len(THOUGHTS[0]), len(THOUGHTS[1]), 0, 0, 0]
    assert result.chunk_answer_chars == [0, 0, 0, len(ANSWER[0]), len(ANSWER[1])]
    assert result.token_ids == [1, 2, 3, 4, 5, THINK_CLOSE, 6, 7, EOS]


def test_times_tokens_and_texts_of_a_whole_answer() -> None:
    outcome = read(EVENTS, think_close=THINK_CLOSE)
    assert (outcome.status, outcome.error, outcome.finish_reason) == ("ok", None, "stop")
    # The role comes at 0 and is no token; thinking at 1 and 2, `</think>` at 3, the answer at 4 and 5, the end at 6.
    assert (outcome.first_token, outcome.first_visible_token, outcome.last_token) == (1, 4, 6)
    assert (outcome.chunk_times, outcome.chunk_tokens) == ([1, 2, 3, 4, 5], [2, 3, 1, 1, 2])
    assert outcome.streamed_ids == 9
    assert (outcome.prompt_tokens, outcome.output_tokens, outcome.tokens_source) == (11, 9, "usage")
    assert (outcome.reasoning_tokens, outcome.answer_tokens, outcome.reasoning_source) == (5, 2, "token_ids")
    assert (outcome.reasoning_text, outcome.answer_text) == ("Grüße 漢字 so 6→7\n", "**42 ✓**")


def test_recorded_thinking_that_the_budget_cut_off_has_no_visible_token() -> None:
    outcome = read(CUT)
    assert (outcome.status, outcome.finish_reason) == ("ok", "length")
    assert (outcome.first_token, outcome.first_visible_token, outcome.last_token) == (1, None, 4)
    assert (outcome.chunk_times, outcome.chunk_tokens) == ([1, 2, 3, 4], [4, 4, 1, 7])
    assert (outcome.prompt_tokens, outcome.output_tokens, outcome.streamed_ids) == (33, 16, None)
    assert (outcome.reasoning_text, outcome.answer_text) == ("\ufffdp\ufffdwer~", "")
    assert (outcome.reasoning_tokens, outcome.answer_tokens, outcome.reasoning_source) == (16, 0, "usage")


def test_thinking_without_its_end_is_all_tokens_when_the_ids_are_known() -> None:
    pieces = [event(chunk([1, 2], 2, reasoning="hm")), event(chunk([3], 3, finish="length", reasoning="m")), DONE]
    outcome = read(pieces, think_close=THINK_CLOSE)
    assert (outcome.reasoning_tokens, outcome.answer_tokens, outcome.reasoning_source) == (3, 0, "token_ids")
    assert outcome.first_visible_token is None


def test_ids_that_do_not_cover_the_output_are_not_counted() -> None:
    first, *rest = (dict(c) for c in CHUNKS[1:])
    first["choices"] = [{**first["choices"][0], "token_ids": None}]
    outcome = read([*map(event, [first, *rest]), DONE], think_close=THINK_CLOSE)
    assert outcome.output_tokens == 9 and outcome.reasoning_tokens is None and outcome.answer_tokens is None
    assert outcome.streamed_ids == 7


@pytest.mark.parametrize(("counts", "told", "thought"), [(False, 5, 5), (True, 6, 5), (True, 0, 0)])
def test_the_engines_own_count_of_thinking(counts: bool, told: int, thought: int) -> None:
    """SGLang's field and its count, which includes `</think>`; nothing is taken off where there was no thinking."""
    pieces = [event({**c, "usage": {**c["usage"], "reasoning_tokens": told}}) for c in CHUNKS]
    outcome = read([*pieces, DONE], counts_think_close=counts)
    # `</think>`, where there was thinking, and the end token are no answer.
    assert (outcome.reasoning_tokens, outcome.answer_tokens) == (thought, 9 - thought - (thought > 0) - 1)
    assert outcome.reasoning_source == "usage"


THINKS, SAYS = {"reasoning": "hm"}, {"content": "4"}


@pytest.mark.parametrize(
    ("pieces", "finish", "thought", "answer"),
    [
        # What comes with each chunk: its ids, its text.
        ([([1, 2], THINKS), ([THINK_CLOSE], {}), ([3, 4, EOS], SAYS)], "stop", 2, 2),
        ([([1, 2], THINKS), ([THINK_CLOSE], {}), ([3, 4, 5], SAYS)], "length", 2, 3),
        ([([1, 2], THINKS), ([THINK_CLOSE], {}), ([3, 4, 5], SAYS)], "stop", 2, 3),  # a stop that is no end token
        ([([1, 2], THINKS), ([THINK_CLOSE, EOS], {})], "stop", 2, 0),
        ([([1, 2], THINKS), ([THINK_CLOSE], {})], "length", 2, 0),
        ([([1, 2, EOS], THINKS)], "stop", 3, 0),
        # Without `</think>` what was shown as an answer is one.
        ([([1, 2], SAYS), ([EOS], {})], "stop", 0, 2),
        ([([1, 2], SAYS)], "length", 0, 2),
        # The engine split elsewhere and does not say where.
        ([([1, 2], THINKS), ([3, EOS], SAYS)], "stop", None, None),
    ],
)
def test_phases_are_counted_by_token_ids(
    pieces: list[tuple[list[int], dict[str, str]]], finish: str, thought: int | None, answer: int | None
) -> None:
    total, events_ = 0, []
    for ids, text in pieces:
        total += len(ids)
        events_.append(event(chunk(ids, total, **text)))
    outcome = read([*events_, event(chunk([], total, finish)), DONE], think_close=THINK_CLOSE, eos=frozenset({EOS}))
    assert (outcome.status, outcome.output_tokens) == ("ok", total)
    assert (outcome.reasoning_tokens, outcome.answer_tokens) == (thought, answer)


def test_an_engine_that_split_elsewhere_is_taken_at_its_word() -> None:
    told = {"reasoning_tokens": 2}
    pieces = [event(chunk([1, 2], 2, reasoning="hm")), event(chunk([3, EOS], 4, "stop", content="4"))]
    pieces += [event({"choices": [], "usage": usage(4) | {"completion_tokens_details": told}}), DONE]
    outcome = read(pieces, think_close=THINK_CLOSE, eos=frozenset({EOS}))
    assert (outcome.reasoning_tokens, outcome.answer_tokens, outcome.reasoning_source) == (2, 1, "usage")


def test_without_a_reasoning_parser_all_but_the_end_token_is_answer() -> None:
    for eos, answer in ((frozenset({EOS}), 8), (frozenset({EOS + 1}), 9), (frozenset[int](), 8)):
        outcome = read(EVENTS, think_close=THINK_CLOSE, eos=eos, parses_reasoning=False)
        assert (outcome.reasoning_tokens, outcome.answer_tokens) == (0, answer)
        assert outcome.reasoning_source == "no reasoning parser"


def test_white_space_is_not_yet_an_answer() -> None:
    pieces = [event(chunk([1], 1, content="\n\n")), event(chunk([2], 2, finish="stop", content="4")), DONE]
    outcome = read(pieces)
    assert (outcome.first_token, outcome.first_visible_token, outcome.answer_text) == (0, 1, "\n\n4")


def test_sglang_names_thinking_otherwise() -> None:
    outcome = read([event(chunk([1], 1, finish="stop", reasoning_content="hm")), DONE])
    assert outcome.reasoning_text == "hm" and outcome.answer_text == ""


def test_without_running_usage_the_tokens_of_a_chunk_are_unknown_not_the_total() -> None:
    bare = [{k: v for k, v in c.items() if k != "usage"} for c in CHUNKS[:-1]]
    outcome = read([*map(event, bare), event({"choices": [], "usage": usage(9)}), DONE])
    assert outcome.status == "ok" and outcome.output_tokens == 9
    assert outcome.chunk_times == [1, 2, 4, 5] and outcome.chunk_tokens == [None] * 4 and outcome.last_token == 6


def test_a_token_that_only_the_last_usage_tells_of_is_counted() -> None:
    """SGLang's finish chunk has no usage; the end token is in the last one."""
    pieces = [event(chunk([1], 1, content="4"))]
    pieces += [event({"choices": [{"delta": {}, "finish_reason": "stop"}]}), event({"choices": [], "usage": usage(2)})]
    outcome = read([*pieces, DONE])
    assert sum(tokens or 0 for tokens in outcome.chunk_tokens) == outcome.output_tokens == 2


@pytest.mark.parametrize("failure", ["timeout", "connection", "truncated", "protocol"])
def test_a_failed_exchange_keeps_what_came_and_never_finished(failure: str) -> None:
    outcome = decode(exchange(EVENTS[:3], failure=failure, error="why"), THINK_CLOSE)
    assert (outcome.status, outcome.error, outcome.http_status) == (failure, "why", 200)
    assert outcome.first_token == 1 and outcome.chunk_tokens == [2, 3] and outcome.reasoning_text
    assert outcome.last_token is None and outcome.first_visible_token is None and outcome.finish_reason is None


def test_nothing_is_made_up_when_nothing_came() -> None:
    outcome = decode(exchange([], failure="timeout", error="why", http_status=None))
    assert outcome == RequestResult(status="timeout", error="why")


@pytest.mark.parametrize("reason", ["abort", "error"])
def test_an_answer_that_the_engine_gave_up_is_a_failure(reason: str) -> None:
    outcome = read([*EVENTS[:3], event(chunk([], 5, finish=reason)), DONE])
    assert outcome.status == "truncated" and reason in str(outcome.error) and outcome.last_token is None


def test_a_long_error_is_kept_short_and_readable() -> None:
    outcome = decode(exchange([b"\xff" + b"x" * 5000], http_status=500))
    assert outcome.status == "http" and outcome.error is not None and len(outcome.error) < 600


@pytest.mark.parametrize("kind", ["Text/Event-Stream; charset=UTF-8", "TEXT/EVENT-STREAM", " text/event-stream ;a=b"])
def test_a_media_type_has_no_case(kind: str) -> None:
    assert decode(exchange(EVENTS, content_type=kind)).status == "ok"


@pytest.mark.parametrize("kind", ["text/event-streams", "application/json", ""])
def test_another_media_type_is_no_stream(kind: str) -> None:
    assert decode(exchange(EVENTS, content_type=kind)).status == "protocol"


def test_separators_of_unicode_and_a_byte_order_mark_are_no_end_of_a_line() -> None:
    text = "one\u2028two\u2029three\x85four"
    pieces = [b"\xef\xbb\xbf" + event(chunk([1], 1, content=text)), event(chunk([2], 2, finish="stop")), DONE]
    outcome = read(pieces)
    assert (outcome.status, outcome.answer_text) == ("ok", text)


def _told(total: int, thought: int, **delta: str) -> bytes:
    """A chunk without token ids whose usage counts thinking, as SGLang sends it."""
    return event(chunk([], total, **delta) | {"usage": usage(total) | {"reasoning_tokens": thought}})


END = [event({"choices": [{"delta": {}, "finish_reason": "stop"}]})]


@pytest.mark.parametrize(
    ("pieces", "thought", "answer", "streamed", "source"),
    [
        # SGLang counts `</think>` too, and every token where it never comes.
        ([_told(2, 2, reasoning="hm"), _told(5, 3, content="4")], 2, 1, 2, "usage"),
        ([_told(20, 20, content="no thinking here"), _told(41, 41, content="4")], 0, 40, 0, "usage"),
        ([_told(2, 1, content="4"), _told(4, 1, content="2")], 0, 2, 0, "usage"),
        # An empty block of thinking, whose white space the parser takes away.
        ([_told(5, 3, content="4")], 0, 1, 0, "no thinking text"),
        # Nothing is shown of what was counted as thinking, or came as tokens before the answer.
        ([_told(60, 50, content="4")], 0, 9, 49, "no thinking text"),
        ([_told(50, 0), _told(52, 0, content="4")], 0, 51, 50, "usage"),
        ([_told(50, 50)], 0, 0, 49, "no thinking text"),
        # Counted otherwise than streamed.
        ([_told(40, 3, reasoning="hm"), _told(44, 3, reasoning="m"), _told(50, 3, content="4")], 2, 46, 40, "usage"),
        ([_told(2, 41, reasoning="hm"), _told(50, 41, content="4"), _told(90, 41, content="2")], 40, 48, 40, "usage"),
        ([_told(2, 81, reasoning="hm"), _told(50, 81, content="4"), _told(90, 81, content="2")], 80, 8, 50, "usage"),
    ],
)
def test_streamed_and_counted_thinking(
    pieces: list[bytes], thought: int, answer: int, streamed: int, source: str
) -> None:
    outcome = read([*pieces, *END, DONE], counts_think_close=True)
    assert (outcome.status, outcome.reasoning_tokens, outcome.answer_tokens) == ("ok", thought, answer)
    assert (outcome.streamed_reasoning, outcome.reasoning_source) == (streamed, source)


def test_streamed_thinking_agrees_with_ids_and_is_unknown_where_chunks_tell_no_tokens() -> None:
    assert read(EVENTS, think_close=THINK_CLOSE).streamed_reasoning == 5
    assert read(EVENTS, think_close=THINK_CLOSE, parses_reasoning=False).streamed_reasoning is None
    bare = [{k: v for k, v in c.items() if k != "usage"} for c in CHUNKS[:-1]]
    outcome = read([*map(event, bare), event({"choices": [], "usage": usage(9)}), DONE], think_close=THINK_CLOSE)
    assert (outcome.reasoning_tokens, outcome.streamed_reasoning) == (5, None)


@pytest.mark.parametrize(
    ("text", "undecoded"), [("TheĠanswer", True), ("4Ċ", True), ("▁So", True), ("So ∑ is é", False), ("", False)]
)
def test_characters_of_a_vocabulary_are_flagged_in_both_texts(text: str, undecoded: bool) -> None:
    assert RequestResult(reasoning_text=text).undecoded is undecoded
    assert RequestResult(answer_text=text).undecoded is undecoded
