"""From effects to verdicts: one-sided tests on either side of a margin, Holm over the primary hypotheses.

A hypothesis names where its effect lies: above a margin, below its negative, or between both. It *holds* when the
effect is shown to lie there, it *does not hold* when it is shown to lie elsewhere, else it is *undecided*, and the
number of units that would probably decide it is given. Both are one-sided tests at half of the level, so that an
effect that lies right on the margin gets a wrong verdict, of either kind, in at most 5 % of the studies. Over all
primary hypotheses of a study p values are adjusted after Holm (1979), over the others after Benjamini and Hochberg
(1995).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ..analysis.intervals import LEVEL, Array, Estimate
from ..analysis.verdicts import POWER, benjamini_hochberg

HOLDS, FAILS, UNDECIDED, NOT_TESTED = "holds", "does not hold", "undecided", "not tested"
ALPHA = 1 - LEVEL
MOST_UNITS = 100_000
"""Beyond so many units a number is no advice."""

Direction = Literal["greater", "less", "within"]


class Examined(NamedTuple):
    """How far the data speak.

    Attributes:
        p: of the likelier of both verdicts, two-sided.
        would_hold: whether that one is "holds".
        distance: from the effect to the nearest margin, on the effect's scale.
    """

    p: float
    would_hold: bool
    distance: float


def threshold(margin: float, is_ratio: bool) -> float:
    """Return a margin on the scale of the effects: 0.05 of a ratio is log 1.05, -0.05 its negative."""
    return float(np.copysign(np.log1p(abs(margin)), margin)) if is_ratio else margin


def examine(effect: Estimate, direction: Direction, margin: float) -> Examined | None:
    """Test an effect against its margin; None where it has no standard error.

    Args:
        effect: on its scale.
        direction: where it lies if the hypothesis holds: above the margin, below its negative, or between both.
        margin: on the scale of the effect; not negative for `within`.
    """
    if not (effect.error > 0 and effect.df > 0):
        return None
    above_margin, above_negative = _above(effect, margin), _above(effect, -margin)
    if direction == "within":
        holds, fails = max(1 - above_margin, above_negative), min(1.0, 2 * min(above_margin, 1 - above_negative))
        distance = margin - abs(effect.value)
    elif direction == "greater":
        holds, fails, distance = above_margin, 1 - above_margin, effect.value - margin
    else:
        holds, fails, distance = 1 - above_negative, above_negative, -margin - effect.value
    return Examined(min(1.0, 2 * min(holds, fails)), holds < fails, abs(distance))


def _above(effect: Estimate, end: float) -> float:
    """P value of the effect's not being above `end`."""
    return float(stats.t.sf((effect.value - end) / effect.error, effect.df))


def holm(p: Array) -> Array:
    """Adjust p values after Holm; those that are NaN take no part."""
    adjusted = np.full(len(p), np.nan)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def adjusted(p: Array, primary: NDArray[np.bool_]) -> Array:
    """Adjust p values: Holm over the primary hypotheses, Benjamini and Hochberg over the others."""
    result = np.full(len(p), np.nan)
    result[primary] = holm(p[primary])
    result[~primary] = benjamini_hochberg(p[~primary])
    return result


def verdict(p_adjusted: float, would_hold: bool) -> str:
    """Return the verdict of a tested hypothesis."""
    if p_adjusted > ALPHA:
        return UNDECIDED
    return HOLDS if would_hold else FAILS


def needed(effect: Estimate, distance: float, count: int, family: int) -> int | None:
    """Return the number of units with which a true effect of this size would get its verdict with a chance of POWER.

    Args:
        effect: as observed with `count` units.
        distance: from the effect to the nearest margin.
        count: units.
        family: hypotheses that p is adjusted over; each is given its part of the level (Bonferroni), which is at most
            what Holm leaves it.

    Returns:
        The number; None beyond MOST_UNITS, which says that the effect lies at the margin.
    """
    reach = float(stats.norm.ppf(1 - ALPHA / 2 / family) + stats.norm.ppf(POWER)) * effect.error
    units = np.inf if distance <= 0 else count * (reach / distance) ** 2
    return int(np.ceil(max(units, count + 1))) if units <= MOST_UNITS else None
