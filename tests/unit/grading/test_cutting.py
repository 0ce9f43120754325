"""Answers cut at every token of a stream are those that a smaller budget would have given."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from rllm_serving.grading.cutting import (
    AT_CHUNK,
    AT_TOKEN,
    BEFORE_CHUNK,
    CHUNKS,
    WHOLE,
    CuttingError,
    Vocabulary,
    cut_answer,
    cut_table,
)
from rllm_serving.measurement.rows import REQUESTS
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

THOUGHT, ANSWER = "漢字: so 6→7\n", " **42 ✓** \\boxed{42}"
CLOSE = "</think>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose tokens are single bytes: most characters of the texts have several."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: place for place, letter in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([AddedToken(CLOSE)])
    tokenizer.add_special_tokens([AddedToken("<end>")])
    place = tmp_path_factory.mktemp("checkpoint")
    tokenizer.save(str(place / "tokenizer.json"))
    return place


def spelt(tokenizer: Tokenizer, ids: list[int]) -> str:
    """What a stream has said after these tokens: an engine holds half a character back."""
    return str(tokenizer.decode(ids)).rstrip("\ufffd")


def answered(
    folder: Path, thought: str, answer: str, sizes: list[int], budget: int = 10**6, engine: str = "vllm"
) -> dict[str, Any]:
    """A row as an engine's stream gives it: chunks of so many tokens, the last size again and again."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    vocabulary = tokenizer.get_vocab()
    close, end = vocabulary[CLOSE], vocabulary["<end>"]
    thoughts, said = (list(tokenizer.encode(text).ids) for text in (thought, answer))
    ids = [*thoughts, *([close] if thought else []), *said, end]
    ended = len(ids) < budget or (len(ids) == budget and engine == "vllm")
    ids = ids[:budget]
    first_said = len(thoughts) + 1 if thought else 0

    def upto(count: int) -> tuple[str, str]:
        return spelt(tokenizer, ids[: min(count, len(thoughts))]), spelt(tokenizer, ids[first_said:count])

    ends: list[int] = []
    while (done := ends[-1] if ends else 0) < len(ids):
        ends.append(min(len(ids), done + sizes[min(len(ends), len(sizes) - 1)]))
    lengths = [[len(text) for text in upto(count)] for count in (0, *ends)]
    texts = upto(len(ids))
    thinking = min(len(thoughts), len(ids))
    closed = bool(thought) and len(ids) > len(thoughts)
    return {
        **dict.fromkeys(REQUESTS.names),
        **{"engine": engine, "status": "ok", "finish_reason": "stop" if ended else "length", "first_token": 1.0},
        **{
            "output_tokens": len(ids),
            "reasoning_tokens": thinking * bool(texts[0]),
            "budget": budget,
            "dataset": "d",
            "model": "m",
        },
        "answer_tokens": len(ids) - thinking - closed - ended,
        "reasoning_source": "token_ids" if thought else "no reasoning parser",
        **{"reasoning_text": texts[0], "answer_text": texts[1], "token_ids": ids},
        "chunk_tokens": [after - before for before, after in pairwise([0, *ends])],
        **{
            name: [after[k] - before[k] for before, after in pairwise(lengths)]
            for k, name in enumerate(("chunk_reasoning_chars", "chunk_answer_chars"))
        },
    }


COMPARED = ("reasoning_text", "answer_text", "output_tokens", "reasoning_tokens", "answer_tokens", "finish_reason")


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
@pytest.mark.parametrize("thought", [THOUGHT, ""], ids=["thinks", "plain"])
def test_a_cut_is_what_the_smaller_budget_would_have_given(folder: Path, thought: str, engine: str) -> None:
    rng, vocabulary = random.Random(7), Vocabulary(folder)
    whole = answered(folder, thought, ANSWER, [1], engine=engine)["output_tokens"]
    for sizes in ([1], [4], [10**6], [rng.randint(1, 6) for _ in range(100)]):
        row = answered(folder, thought, ANSWER, sizes, engine=engine)
        for budget in range(1, whole + 3):
            measured = answered(folder, thought, ANSWER, [1], budget, engine)
            cut = row | cut_answer(row, budget, vocabulary)
            assert {name: cut[name] for name in COMPARED} == {name: measured[name] for name in COMPARED}, budget
            assert cut["cut"] in ((WHOLE,) if measured["finish_reason"] == "stop" else (AT_CHUNK, AT_TOKEN))
            assert cut["has_visible_text"] == bool(measured["answer_text"].strip())
            assert cut["first_token"] is None


def test_without_token_ids_a_chunk_that_holds_the_cut_is_left_out(folder: Path) -> None:
    row = answered(folder, THOUGHT, ANSWER, [5]) | {"token_ids": None, "reasoning_source": "usage"}
    thinking = row["reasoning_tokens"]
    for budget in range(1, row["output_tokens"]):
        cut = cut_answer(row, budget, Vocabulary(folder))
        exact = answered(folder, THOUGHT, ANSWER, [1], budget)
        assert cut["cut"] == (BEFORE_CHUNK if budget % 5 else AT_CHUNK)
        before = answered(folder, THOUGHT, ANSWER, [1], budget - budget % 5) if budget >= 5 else {}
        assert cut["reasoning_text"] == before.get("reasoning_text", "")
        assert cut["answer_text"] == before.get("answer_text", "")
        # How many tokens there are of each is known all the same.
        assert (cut["reasoning_tokens"], cut["answer_tokens"]) == (
            min(thinking, budget),
            exact["answer_tokens"],
        )


def test_ids_that_do_not_spell_the_text_divide_nothing(folder: Path, tmp_path: Path) -> None:
    row = answered(folder, "", "abcdefgh", [4])
    assert cut_answer(row, 6, Vocabulary(folder))["answer_text"] == "abcdef"
    other = row | {"answer_text": "ABCDEFGH"}
    for found in (cut_answer(other, 6, Vocabulary(folder)), cut_answer(row, 6, Vocabulary(tmp_path))):
        assert found["cut"] == BEFORE_CHUNK and found["answer_text"].lower() == "abcd"


def test_text_of_a_chunk_without_a_count_belongs_to_the_next(folder: Path) -> None:
    row = answered(folder, "", "abcdef", [1]) | {"token_ids": None}
    row |= {"chunk_tokens": [1, None, 2, 1, 0, 3], "chunk_answer_chars": [1, 1, 1, 1, 1, 1], "output_tokens": 7}
    row["chunk_reasoning_chars"] = [0] * 6
    texts = [cut_answer(row, budget, Vocabulary(folder))["answer_text"] for budget in range(1, 7)]
    assert texts == ["a", "a", "abc", "abcde", "abcde", "abcde"]


def test_a_stream_that_did_not_count_is_refused(folder: Path) -> None:
    row = answered(folder, "", "abcdef", [1]) | {"chunk_tokens": [None] * 7}
    with pytest.raises(CuttingError, match="list all of the experiment's budgets as measured"):
        cut_answer(row, 3, Vocabulary(folder))


def test_what_failed_stays_failed(folder: Path) -> None:
    row = answered(folder, "", "abcdef", [1]) | {"status": "timeout", "finish_reason": None}
    cut = cut_answer(row, 3, Vocabulary(folder))
    assert "finish_reason" not in cut and cut["answer_text"] == "abcdef" and cut["cut"] == WHOLE


def test_a_table_keeps_its_rows_and_says_where_they_are_from(folder: Path) -> None:
    rows = [answered(folder, THOUGHT, ANSWER, [1], 30), answered(folder, THOUGHT, "7", [1])]
    table = pa.Table.from_pylist(rows, schema=REQUESTS)
    cut = cut_table(table, 12, 30, Vocabulary(folder))
    assert cut["budget"].to_pylist() == [12, 12] and cut["derived_from"].to_pylist() == [30, 30]
    assert not set(CHUNKS) & set(cut.column_names)
    assert cut["finish_reason"].to_pylist() == ["length", "length"]
