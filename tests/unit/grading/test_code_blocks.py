"""Which code of an answer is run, where the function that was asked for is known and where not."""

from __future__ import annotations

import time

import pytest
from rllm_serving.grading.code_blocks import code

FUNCTION = "def f(x):\n    return x"
FENCED = f"```python\n{FUNCTION}\n```\n"


@pytest.mark.parametrize(
    "later",
    [
        "def g():\n    return 1",
        "class Test:\n    def f(self): ...",
        "def f(x):\n    ...",
        "def f(x): raise NotImplementedError",
        "import f",
        "assert f(1) == 1",
        "x = f == 1",
    ],
)
def test_what_stands_behind_the_function_does_not_count(later: str) -> None:
    assert code(f"{FENCED}```python\n{later}\n```", entry_point="f") == FUNCTION


@pytest.mark.parametrize(
    "better", ["def f(y):\n    return y + 1", "async def f(x):\n    return 2", "f = lambda x: 2", "def f("]
)
def test_a_later_function_of_that_name_does(better: str) -> None:
    assert code(f"{FENCED}```\n{better}\n```", entry_point="f") == better


def test_a_stub_counts_where_nothing_else_is_there() -> None:
    assert code("```python\ndef f(x):\n    pass\n```", entry_point="f") == "def f(x):\n    pass"


def test_without_a_name_the_last_block_with_a_definition_counts() -> None:
    assert code(f"```python\ndef g(): ...\n```\n{FENCED}```python\nprint(f(1))\n```") == FUNCTION


def test_of_code_that_was_cut_off_only_a_closed_block_counts() -> None:
    assert code(f"{FENCED}and ```python\ndef f(x):\n    retu", cut_off=True, entry_point="f") == FUNCTION
    assert code(f"{FUNCTION}\n```\nand", cut_off=True, entry_point="f") == FUNCTION
    assert code(FUNCTION, cut_off=True) is None


@pytest.mark.parametrize("line", ["```python\n", "```\n", "````\n```\n", "~~~\n", "x ```python\n", "def f(): ```\n"])
def test_fences_of_a_looping_model_end(line: str) -> None:
    before = time.process_time()
    code(line * 30_000, entry_point="f")
    assert time.process_time() - before < 10
