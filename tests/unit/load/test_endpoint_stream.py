"""Streams of other servers: what each sends is kept, what none told is missing or counted, never guessed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.endpoint_server import ANSWER, STYLES, THOUGHT, USAGE, chunk, event, events
from rllm_serving.load.client import HttpExchange
from rllm_serving.load.endpoint_stream import Reading, decode, split_tags
from rllm_serving.load.stream import RequestResult
from rllm_serving.load.token_counter import TokenCounter, TokenizerError

DONE = b"data: [DONE]\n\n"


def exchange(pieces: list[bytes], **options: Any) -> HttpExchange:
    stamps = [float(place) for place in range(1, len(pieces) + 1)]
    told = {"http_status": 200, "content_type": "text/event-stream", **options}
    return HttpExchange(0.0, sent=0.0, closed=99.0, stamps=stamps, pieces=pieces, **told)


def read(pieces: list[bytes], reading: Reading | None = None, **options: Any) -> RequestResult:
    return decode(exchange(pieces, **options), reading or Reading())[0]


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> TokenCounter:
    """A token a character, so that what is counted is plain to see."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    letters = sorted(set("".join((*THOUGHT, *ANSWER, "漢字é \n"))))
    tokenizer = Tokenizer(models.WordLevel({letter: k for k, letter in enumerate(["?", *letters])}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(file))
    return TokenCounter(str(file.parent))


def test_usage_at_the_end_is_the_sum_and_says_nothing_of_chunks() -> None:
    outcome = read(list(events("reasoner")))
    assert (outcome.status, outcome.finish_reason, outcome.error) == ("ok", "stop", None)
    assert (outcome.prompt_tokens, outcome.output_tokens, outcome.tokens_source) == (21, 19, "usage at the end")
    assert outcome.chunk_tokens == [None] * 4 and outcome.chunk_times == [2, 3, 4, 5]
    assert (outcome.reasoning_text, outcome.answer_text) == ("".join(THOUGHT), "".join(ANSWER))
    assert (outcome.first_token, outcome.first_visible_token, outcome.last_token) == (2, 4, 6)
    # How many tokens of the rest are visible nobody told: `</think>` and the end may be among them.
    assert (outcome.reasoning_tokens, outcome.reasoning_source, outcome.answer_tokens) == (9, "usage", None)


def test_usage_beside_the_last_chunk_is_not_taken_for_that_chunks(counter: TokenCounter) -> None:
    assert read(list(events("chat"))).chunk_tokens == [None, None]
    # Nor where running usage was asked for, and not sent with every chunk.
    assert read(list(events("chat")), Reading(running_usage=True)).chunk_tokens == [None, None]
    counted = read(list(events("chat")), Reading(counter=counter))
    assert counted.chunk_tokens == [len(text) for text in ANSWER]
    assert counted.tokens_source == "usage at the end, chunks by tokenizer"
    assert (counted.output_tokens, counted.answer_tokens) == (19, len("".join(ANSWER)))


def test_running_usage_counts_where_the_config_says_that_it_runs() -> None:
    running = [chunk(content=text, usage={"completion_tokens": n}) for text, n in (("a", 2), ("b", 3), ("", 5))]
    running += [chunk(finish="stop", usage={"completion_tokens": 6}), DONE]
    outcome = read(running, Reading(running_usage=True))
    assert (outcome.chunk_tokens, outcome.output_tokens, outcome.tokens_source) == ([2, 1, 2, 1], 6, "usage")
    assert read(running).chunk_tokens == [None, None]


def test_without_any_usage_tokens_are_counted_or_missing(counter: TokenCounter) -> None:
    bare = read(list(events("bare")))
    assert (bare.status, bare.finish_reason, bare.error) == ("ok", "eos_token", None)
    assert (bare.output_tokens, bare.prompt_tokens, bare.answer_tokens, bare.tokens_source) == (None,) * 4
    counted = read(list(events("bare")), Reading(counter=counter))
    assert counted.output_tokens == counted.answer_tokens == sum(map(len, ANSWER))
    assert (counted.tokens_source, counted.prompt_tokens, counted.reasoning_tokens) == ("tokenizer", None, 0)


def test_thinking_between_tags_is_told_from_the_answer_wherever_the_stream_is_cut(counter: TokenCounter) -> None:
    outcome = read(list(events("tags")), Reading(tags=True, counter=counter))
    assert outcome.reasoning_text == "".join(THOUGHT) and outcome.answer_text == "\n" + "".join(ANSWER)
    assert outcome.first_token == 4 and outcome.first_visible_token == 8
    assert (outcome.reasoning_tokens, outcome.reasoning_source) == (len("".join(THOUGHT)), "tokenizer")
    text = "<think>So 3</think> 7"
    for width in range(1, len(text)):
        pieces = [text[start : start + width] for start in range(0, len(text), width)]
        thought, said = split_tags(pieces)
        assert ("".join(thought), "".join(said)) == ("So 3", " 7") and len(thought) == len(said) == len(pieces)
    # The template opened it, and the budget ended before it was closed.
    assert split_tags(["So ", "3"]) == (["So ", "3"], ["", ""])
    plain = read(list(events("tags")), Reading(tags=True, parses_reasoning=False))
    assert plain.reasoning_text == "" and plain.reasoning_source == "no reasoning parser"


@pytest.mark.parametrize("finish", ["content_filter", "eos", "end_turn", "tool_calls", "length"])
def test_any_reason_to_finish_is_kept(finish: str) -> None:
    outcome = read([chunk(content="7"), chunk(finish=finish)])
    assert (outcome.status, outcome.finish_reason, outcome.last_token) == ("ok", finish, 2)


@pytest.mark.parametrize(
    ("pieces", "options", "status", "words"),
    [
        ([chunk(content="7")], {}, "truncated", "without [DONE] and without a finish reason"),
        ([chunk(content="7"), chunk(finish="abort")], {}, "truncated", "gave the request up: abort"),
        ([b"slow down"], {"http_status": 429}, "http", "HTTP 429 (rate limit): slow down"),
        ([b""], {"http_status": 307, "location": "https://b/v1"}, "http", "a redirect to https://b/v1, which is not"),
        ([b"{}"], {"content_type": "application/json"}, "protocol", "'application/json' is no stream of events"),
        ([chunk(content="7"), event({"error": {"message": "quota"}})], {}, "http", "error within the stream"),
        ([chunk(content="7"), b"data: {\n\n"], {}, "protocol", "not a completion chunk"),
        ([chunk(content="7")], {"failure": "timeout", "error": "no end"}, "timeout", "no end"),
    ],
)
def test_failures_have_their_reason_and_never_a_latency(
    pieces: list[bytes], options: dict[str, Any], status: str, words: str
) -> None:
    outcome = read(pieces, **options)
    assert outcome.status == status and outcome.error is not None and words in outcome.error
    assert outcome.last_token is None


def test_no_part_of_a_key_is_shown_wherever_the_text_is_cut() -> None:
    for before in range(480, 505):
        said = b"x" * before + b"sk-secret"
        told = read([said], Reading(key="sk-secret"), http_status=401).error or ""
        assert told.rstrip("*").endswith("x")


def test_an_end_that_is_marked_needs_no_finish_reason() -> None:
    outcome = read([chunk(content="7"), DONE])
    assert (outcome.status, outcome.finish_reason, outcome.last_token) == ("ok", None, 1)


def test_thinking_that_a_server_does_not_count_is_not_none() -> None:
    details = {"choices": [], "usage": {**USAGE, "completion_tokens_details": {"reasoning_tokens": 0}}}
    outcome = read([chunk(reasoning_content="So"), chunk(content="7", finish="stop"), event(details)])
    assert (outcome.reasoning_tokens, outcome.reasoning_source) == (None, None)
    hidden = {"choices": [], "usage": {**USAGE, "completion_tokens_details": {"reasoning_tokens": 12}}}
    outcome = read([chunk(content="7", finish="stop"), event(hidden)])
    assert (outcome.reasoning_tokens, outcome.reasoning_source) == (12, "usage")


@pytest.mark.parametrize(("generated", "thinking"), [(3, 0), (19, None)])
def test_more_tokens_than_the_answer_has_may_be_thinking_that_is_not_shown(
    generated: int, thinking: int | None, counter: TokenCounter
) -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": generated}}
    outcome = read([chunk(content="7", finish="stop"), event(usage)], Reading(counter=counter))
    assert (outcome.answer_tokens, outcome.reasoning_tokens) == (1, thinking)
    assert outcome.reasoning_source == (None if thinking is None else "tokenizer")


def test_what_the_server_says_that_it_served_is_collected() -> None:
    assert decode(exchange(list(events("chat"))), Reading())[1] == {("served-1", "fp_1")}


@pytest.mark.parametrize("style", STYLES)
def test_streams_of_every_style_survive_any_cut(style: str, counter: TokenCounter) -> None:
    whole = b"".join(events(style))
    reading = Reading(tags=style == "tags", counter=counter)
    expected = read(list(events(style)), reading)
    for width in (1, 7, len(whole)):
        pieces = [whole[start : start + width] for start in range(0, len(whole), width)]
        found = read(pieces, reading)
        assert (found.reasoning_text, found.answer_text) == (expected.reasoning_text, expected.answer_text)
        assert (found.chunk_tokens, found.output_tokens) == (expected.chunk_tokens, expected.output_tokens)


def test_pieces_have_the_tokens_that_they_complete(counter: TokenCounter) -> None:
    assert counter.per_piece(["So", "", " 3", "漢é"]) == [2, 0, 2, 2]
    assert counter.per_piece([]) == []


def test_a_tokenizer_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {}}))
    with pytest.raises(TokenizerError, match=r"tokenizer\.json is no tokenizer\.json: "):
        TokenCounter(str(tmp_path))
    with pytest.raises(TokenizerError, match="nowhere is no tokenizer"):
        TokenCounter(str(tmp_path / "nowhere"))
