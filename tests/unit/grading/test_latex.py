r"""The plain form of LaTeX, and what fractions and roots take."""

from __future__ import annotations

import time

import pytest
from rllm_serving.grading.arguments import with_braces
from rllm_serving.grading.latex import elements, normalize


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        (r"$\text{1,200}$", "1200"),
        (r"x = \mathbf{1{,}200}", "x = 1200"),
        ("(1,200)", "(1,200)"),
        (r"\{100,200\}", r"\{100,200\}"),
        (r"(1\,200, 5)", "(1200, 5)"),
        ("0,1", "0,1"),
        ("3{,}14", "3.14"),
        (r"2^3\,100", r"2^3 100"),
        (r"0.000\,067\,2", "0.0000672"),
        (r"\left( \tfrac12 , 3 \right)", r"( \frac{1}{2} , 3 )"),
        (r"\textcolor{red}{10}", "10"),
        (r"**\boxed{18 \text{ cm}}**", "18"),
        (r"1 \text{ or } 2", "1, 2"),
        ("1 + 2 i", "1 + 2 I"),
        (r"6-5\cdot\mathrm{i}", "6-5 I"),
        (r"\sum_{i=1}^{n} i", r"\sum_{i=1}^{n} i"),
        (r"\sin \pi", r"\sin \pi"),
        (r"\text{Delhi}", r"\text{Delhi}"),
        ("2pi", r"2\pi"),
        ("2 1/2", r"2\frac{1}{2}"),
        ("1.5e-3", r"1.5 \cdot 10^{-3}"),
        (r"30^{\circ}\text{C}", "30"),
        (r"50 \text{ percent}", r"50\%"),
        (r"\text{Total: } 18.", "18"),
        ("[18]", "18"),
        (r"\begin{bmatrix} 1 \\[2pt] 2 \\ \end{bmatrix}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"),
        (r"\ge 18", r"\ge 18"),
    ],
)
def test_formulas_are_plain(formula: str, expected: str) -> None:
    assert normalize(formula) == expected


def test_where_digits_are_not_grouped_a_comma_separates() -> None:
    assert normalize("100,200", grouped=False) == "100,200"
    assert normalize(r"100\,200", grouped=False) == "100200"


def test_elements_stand_in_no_brackets() -> None:
    assert elements(r"(1,2), \{3;4\}; 5") == ["(1,2)", r" \{3;4\}", " 5"]


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        (r"\frac12", r"\frac{1}{2}"),
        (r"\dfrac{270}7", r"\frac{270}{7}"),
        (r"\frac\pi2x", r"\frac{\pi}{2}x"),
        (r"\frac{\frac12}3", r"\frac{\frac{1}{2}}{3}"),
        (r"\sqrt2", r"\sqrt{2}"),
        (r"\sqrt17", r"\sqrt{17}"),
        (r"\sqrt[3]2", r"\sqrt[3]{2}"),
        (r"4\sqrt(2+x)", r"4\sqrt{2+x}"),
        ("sqrt(2)", r"\sqrt{2}"),
        (r"\sqrt{", r"\sqrt{"),
        (r"\frac{1}", r"\frac{1}"),
    ],
)
def test_arguments_stand_in_braces(formula: str, expected: str) -> None:
    assert with_braces(formula) == expected


@pytest.mark.parametrize(
    "formula",
    [
        r"\text{" * 650,
        r"\frac" * 790,
        r"\sqrt(" * 600,
        "1,000," * 660,
        "(" * 3900,
        "5 " + "abc " * 990,
        r"1\, " * 990,
        "1" + r"\, " * 1300,
        r"1 \text{ and } " * 250,
        r"[(\begin{pmatrix} " * 200,
        "{" * 1900 + "5" + "}" * 1900,
    ],
)
def test_the_longest_answers_are_brought_into_form_soon(formula: str) -> None:
    before = time.process_time()
    normalize(formula)
    assert time.process_time() - before < 5
