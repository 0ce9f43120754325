"""Letters of options, alone and beside their texts; golds that are letters."""

from __future__ import annotations

import pytest
from rllm_serving.grading.letters import gold_letter, letter


@pytest.mark.parametrize(
    "text",
    [
        "C",
        "c",
        "(C)",
        "[C]",
        "**C**.",
        '"C"',
        r"\text{(C)}",
        r"$\mathbf{C}$",
        r"{\text{C}}",
        r"\color{red} C",
        "Option (C)",
        "The correct answer is: C",
        "C. Tripoli",
        "C: Tripoli",
        "C) Tripoli",
        r"C\ \text{Tripoli}",
        r"C \; 5",
        "C - Tripoli",
        r"C \text{ (Tripoli)}",
        r"\text{C}~5",
        "C 2.5 m",
        "(c) Tripoli",
        "C, since it is near",
    ],
)
def test_a_letter_is_found(text: str) -> None:
    assert letter(text) == "C"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A metal",
        "AB",
        "A, B",
        "A/B",
        "A & B",
        r"A \text{ or } B",
        "A and B",
        "A or B) 5",
        r"A \quad B",
        "A) 5 or B) 6",
        "A 5 m rope",
        "x + y",
        "(A, B)",
        "Tripoli",
        r"x \quad 5",
        r"\alpha",
        "I think",
    ],
)
def test_several_letters_an_article_and_symbols_are_none(text: str) -> None:
    assert letter(text) is None


@pytest.mark.parametrize(("text", "found"), [("A) 5 m", "A"), ("A. Five", "A"), ("E. coli", None), ("A 5", None)])
def test_of_a_whole_text_a_mark_must_separate_the_letter(text: str, found: str | None) -> None:
    assert letter(text, alone=True) == found


def test_golds_that_are_letters() -> None:
    assert [gold_letter(gold) for gold in ("C", "(C)", r"\text{(C)}", r"\textbf{C}", "C.")] == ["C"] * 5
    assert [gold_letter(gold) for gold in ("x", "AB", "5", r"\text{east}", "C+1", "")] == [None] * 6
