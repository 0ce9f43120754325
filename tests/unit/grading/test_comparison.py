r"""What the texts of a gold and an answer tell without a parser."""

from __future__ import annotations

from decimal import Decimal

import pytest
from rllm_serving.grading.comparison import same_decimals, settle


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        (r"\text{(C)}", r"\text{(C) Plane}"),
        ("1,200", r"\text{1200}"),
        (r"\text{Evelyn}", "evelyn"),
        ("52_8", "(52)_{8}"),
        ("52_8", r"52 \text{ (base eight)}"),
        ("52_8", "x = 52"),
        ("1A_{16}", r"1A_{\text{sixteen}}"),
        (r"10 \pmod{17}", r"x \equiv 10 \pmod {17}"),
        ("10", r"10 \ (\text{mod } 17)"),
        (r"12:30 \text{ p.m.}", "12:30 PM"),
        ("18", "18.00"),
        (r"x, \ldots, z", r"x,\ldots,z"),
    ],
)
def test_the_same(gold: str, answer: str) -> None:
    assert settle(gold, answer) is True


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        (r"\text{(C)}", "B"),
        (r"\text{(C)}", r"\text{C or D}"),
        (r"\text{east}", r"\text{west}"),
        (r"\text{east}", "5"),
        ("52_8", "52_9"),
        ("52_8", "53"),
        ("52_8", "26 + 26"),
        (r"10 \pmod{17}", r"10 \pmod{19}"),
        ("12:00", "1:00"),
        ("5 pm", "5 am"),
        ("18", "-18"),
        ("18", ""),
    ],
)
def test_not_the_same(gold: str, answer: str) -> None:
    assert settle(gold, answer) is False


def test_the_rest_is_left_to_a_parser_in_plain_form() -> None:
    assert settle(r"\dfrac12", "$0.5$") == (r"\frac{1}{2}", "0.5")
    assert settle("100, 200", "200,100") == ("100, 200", "200,100")
    assert settle("7:32", r"\frac{7}{32}") == ("7:32", r"\frac{7}{32}")


@pytest.mark.parametrize(
    ("gold", "answer", "same"),
    [
        ("18", "18.0", True),
        ("0.3333333", "0.333333", True),
        ("0.0000672", "0.0000673", False),
        ("0.014286", "0.0142857", True),
        ("0.5", "0.4999", False),
        ("16386.17", "16386.169", False),
        ("1e-400", "2e-400", False),
        ("0", "1e-9", False),
    ],
)
def test_decimals_are_rounded_relatively(gold: str, answer: str, same: bool) -> None:
    assert same_decimals(Decimal(gold), Decimal(answer)) is same
