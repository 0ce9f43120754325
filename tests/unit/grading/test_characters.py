"""Unicode of answers in ASCII and LaTeX."""

from __future__ import annotations

import pytest
from rllm_serving.grading.characters import plain


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain $x^2$", "plain $x^2$"),
        ("\uff11\uff12\uff0c\uff13\uff1a\uff22", "12,3:B"),
        ("\u22125 \u2212 \u00d7", "-5 - \\times "),
        ("x\u00b2\u2070 + y\u2081\u2082", "x^{20} + y_{12}"),
        ("10\u207b\u2075", "10^{-5}"),
        ("2\u00bd", r"2\frac{1}{2}"),
        ("\u221a17, \u221a(x+1), \u221b2", r"\sqrt{17}, \sqrt{x+1}, \sqrt[3]{2}"),
        ("\U0001d465 + \U0001d7cf", "x + 1"),
        ("\u201cB\u201d", '"B"'),
        ("1\u202f200\u00a0m", "1 200 m"),
        ("\u200b5\ufeff", "5"),
    ],
)
def test_characters_are_plain(text: str, expected: str) -> None:
    assert plain(text) == expected
