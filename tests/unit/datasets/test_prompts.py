"""Prompts: the templates of real datasets, and templates that are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from rllm_serving.datasets.prompts import PromptError, render

PROMPTS = Path(__file__).resolve().parents[3] / "resources" / "prompts"


@pytest.mark.parametrize("name", ["number", "math"])
def test_open_questions_ask_for_a_box(name: str) -> None:
    question = "What is {{ 1 + 1 }} & <b>?\n  Think."
    assert render(PROMPTS / f"{name}.jinja", question) == (
        f"{question}\n\nPlease reason step by step, and put your final answer within \\boxed{{}}."
    )


def test_choices_stand_with_their_letters() -> None:
    text = render(PROMPTS / "choice.jinja", "Capital of Libya?", ["Tunis", "Tripoli", "A {% b %}"])
    lines = text.splitlines()
    assert lines[:6] == ["Capital of Libya?", "", "(A) Tunis", "(B) Tripoli", "(C) A {% b %}", ""]
    assert lines[6].endswith(r"within \boxed{}.")
    assert len(lines) == 7


def test_ten_choices_have_ten_letters() -> None:
    lines = render(PROMPTS / "choice.jinja", "Which?", [f"option {n}" for n in range(10)]).splitlines()
    assert [line[:3] for line in lines[2:12]] == [f"({letter})" for letter in "ABCDEFGHIJ"]


def test_code_stands_in_a_block_as_it_is() -> None:
    question = 'def f(x: dict) -> str:\n    """{{ x }} < {% y %}"""'
    assert f"```python\n{question}\n```" in render(PROMPTS / "code.jinja", question)


@pytest.mark.parametrize(("content", "message"), [("{{ qestion }}", "qestion"), ("{% for %}", "Expected")])
def test_a_wrong_template_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "mine.jinja"
    path.write_text(content)
    with pytest.raises(PromptError, match=rf"mine\.jinja: .*{message}"):
        render(path, "q")


def test_a_missing_template_is_named(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match=r"gone\.jinja: No such file"):
        render(tmp_path / "gone.jinja", "q")
