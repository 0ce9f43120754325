"""Numbers with currency, groups, percent, factors and units."""

from __future__ import annotations

import pytest
from rllm_serving.grading.quantities import number, scaled, without_unit


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\$1,200.50 a day", "1200.50"),
        ("1 200", "1200"),
        (r"1,\! 200", "1200"),
        ("-$5", "-5"),
        ("5%", r"5\%"),
        (r"12.5\text{ percent}", r"12.5\%"),
        ("3 thousand miles", "3000"),
        (r"0.5 \text{ million}", "500000"),
        (r"5\text{ m}", "5"),
        (r"5\,\mathrm{m/s}", "5"),
        ("20 square feet", "20"),
        (r"20 \text{ cm}^2", "20"),
        ("18 \u20ac", "18"),
        ("18 more cookies", "18"),
    ],
)
def test_a_number_is_found_in_what_stands_around_it(text: str, expected: str) -> None:
    assert number(text) == expected


@pytest.mark.parametrize(
    "text",
    ["18x", "5 m", r"2\pi", "18 or more", "18 and a half", "1,2000", "0,123", "x", r"18\mathrm{i}", "", "3 for 2"],
)
def test_what_is_more_than_a_number_is_none(text: str) -> None:
    assert number(text) is None


def test_factors_are_multiplied_out() -> None:
    assert scaled(r"18 \text{ million eggs}") == r"18000000 \text{eggs}"
    assert scaled(r"\frac{3}{2} \text{million}") == r"\frac{3}{2} \cdot 1000000 "
    assert scaled(r"a \text{ million }") == r"a \text{ million }"


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        (r"18 \text{cm}^2", "18"),
        ("18 square units", "18"),
        (r"\frac{270}{7} degrees", r"\frac{270}{7}"),
        ("5 m", "5"),
        ("2m", "2m"),
        ("3abc", "3abc"),
        (r"\frac{1}{2} h", r"\frac{1}{2} h"),
        (r"18 \text{or more}", r"18 \text{or more}"),
        ("2 sin x", "2 sin x"),
    ],
)
def test_units_go_and_limits_stay(formula: str, expected: str) -> None:
    assert without_unit(formula) == expected
