r"""Boxes: which are closed, which were given up, which are one answer. Texts of looping models end soon."""

from __future__ import annotations

import time

import pytest
from rllm_serving.grading.boxes import boxes, joined, last_group, meant


def test_boxes_close_hold_something_and_no_other_box() -> None:
    text = r"\boxed{a{b}} \boxed{ } \boxed{\boxed{3}} \fbox{4} \boxed{\{5\}} \boxed{open {"
    assert [box.content for box in boxes(text)] == ["a{b}", "3", "4", r"\{5\}"]
    assert text[slice(*boxes(text)[0][:2])] == r"\boxed{a{b}}"


def test_boxes_that_were_given_up_are_left_out() -> None:
    text = r"not \boxed{1}, isn't $x = \boxed{2}$, rather than \(\boxed{3}\), not only \boxed{4}"
    assert [box.content for box in meant(text)] == ["4"]


@pytest.mark.parametrize(
    "between", [" and ", ", ", r",\ ", "; ", " & ", r" \quad \text{and} \quad ", "\n- ", ".\n2. x = ", ""]
)
def test_joined_boxes_are_one_answer(between: str) -> None:
    text = rf"\boxed{{0}}. Then \boxed{{1}}{between}\boxed{{2}}"
    assert last_group(text, boxes(text)) == (["1", "2"], False)


@pytest.mark.parametrize("between", [". ", " so ", "\n\n", " ", ". Hence ", " is not ", ",\n\nbut "])
def test_other_boxes_are_not(between: str) -> None:
    text = rf"\boxed{{1}}{between}\boxed{{2}}"
    assert last_group(text, boxes(text)) == (["2"], False)


def test_or_is_told_and_the_same_box_counts_once() -> None:
    text = r"$\boxed{1}$ or $\boxed{2}$ and $\boxed{1}$"
    assert last_group(text, boxes(text)) == (["1", "2"], True)
    assert joined(r"$ and $") and not joined(" ") and not joined(" perhaps ")


@pytest.mark.parametrize(
    "text",
    [
        r"\boxed{" * 100000,
        r"\boxed{1}," * 60000,
        r"\boxed{" * 50000 + "}" * 50000,
        r"not \boxed{1} " * 50000,
        r"\boxed{1}" + " " * 300000 + r"and \boxed{" + "1,000," * 60000 + "}",
    ],
)
def test_the_time_is_linear(text: str) -> None:
    before = time.process_time()
    found = meant(text)
    assert not found or last_group(text, found)
    assert time.process_time() - before < 5
