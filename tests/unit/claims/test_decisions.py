"""Verdicts from effects: known answers, and the meaning of each direction."""

from __future__ import annotations

import numpy as np
import pytest
from rllm_serving.analysis.intervals import Estimate
from rllm_serving.claims.decisions import (
    FAILS,
    HOLDS,
    UNDECIDED,
    Direction,
    adjusted,
    examine,
    holm,
    needed,
    threshold,
    verdict,
)


@pytest.mark.parametrize(
    ("value", "error", "direction", "margin", "expected"),
    [
        (0.30, 0.05, "greater", 0.05, HOLDS),
        (-0.10, 0.05, "greater", 0.05, FAILS),
        (0.00, 0.005, "greater", 0.05, FAILS),
        (0.10, 0.05, "greater", 0.05, UNDECIDED),
        (-0.30, 0.05, "less", 0.05, HOLDS),
        (0.00, 0.005, "less", 0.05, FAILS),
        (-0.01, 0.005, "greater", -0.03, HOLDS),
        (-0.10, 0.01, "greater", -0.03, FAILS),
        (0.00, 0.01, "within", 0.05, HOLDS),
        (0.20, 0.01, "within", 0.05, FAILS),
        (-0.20, 0.01, "within", 0.05, FAILS),
        (0.03, 0.03, "within", 0.05, UNDECIDED),
    ],
)
def test_an_effect_gets_its_verdict(
    value: float, error: float, direction: Direction, margin: float, expected: str
) -> None:
    test = examine(Estimate(value, error, 1000), direction, margin)
    assert test is not None
    assert verdict(test.p, test.would_hold) == expected


def test_the_p_value_is_that_of_a_two_sided_test_of_the_margin() -> None:
    test = examine(Estimate(0.05 + 1.96 * 0.1, 0.1, 1e9), "greater", 0.05)
    assert test is not None
    assert test.p == pytest.approx(0.05, abs=1e-4)
    assert test.distance == pytest.approx(0.196)


@pytest.mark.parametrize("error", [np.nan, 0.0])
def test_without_a_standard_error_nothing_is_tested(error: float) -> None:
    assert examine(Estimate(0.3, error, 10), "greater", 0.0) is None


def test_margins_of_ratios_are_the_same_distance_up_and_down() -> None:
    assert threshold(0.05, is_ratio=True) == pytest.approx(np.log(1.05))
    assert threshold(-0.05, is_ratio=True) == pytest.approx(-np.log(1.05))
    assert threshold(-0.03, is_ratio=False) == -0.03


def test_holm_is_that_of_the_textbook() -> None:
    found = holm(np.array([0.01, 0.04, np.nan, 0.03, 0.005]))
    assert found == pytest.approx([0.03, 0.06, np.nan, 0.06, 0.02], nan_ok=True)


def test_others_do_not_weigh_on_primary_hypotheses() -> None:
    found = adjusted(np.array([0.02, 0.001, 0.5, 0.5]), np.array([True, False, False, False]))
    assert found[0] == pytest.approx(0.02)
    assert found[1] == pytest.approx(0.003)


def test_needed_units_shrink_the_error_to_what_is_told_apart() -> None:
    # Reach 1.96 + 0.84 errors: an error of 0.1 with 10 units must become 0.1 / 2.8 for a distance of 0.1.
    assert needed(Estimate(0.1, 0.1, 9), 0.1, 10, 1) == pytest.approx(10 * 2.8**2, rel=0.01)
    assert needed(Estimate(0.1, 0.1, 9), 0.1, 10, 30) > needed(Estimate(0.1, 0.1, 9), 0.1, 10, 1)  # type: ignore[operator]
    assert needed(Estimate(0.1, 0.1, 9), 0.0, 10, 1) is None
    assert needed(Estimate(0.1, 0.1, 9), 1e-4, 10, 1) is None
