"""What a comparison says, by margins that were fixed before measuring: changed, equivalent or undecided.

Equivalent: two one-sided tests (Schuirmann 1987), the 90 % interval lies within the margin. Changed: the test against
"no change" is significant after Benjamini and Hochberg (1995) over the table's comparisons of that metric, and the
effect is not equivalent. Else undecided: the smallest effect that would have been seen says how little that means.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from .intervals import LEVEL, Array, Estimate

CHANGED, EQUIVALENT, UNDECIDED = "changed", "equivalent", "undecided"
POWER = 0.8
"""Chance with which `smallest_effect` would have been seen."""
COLUMNS = ["p", "margin", "smallest_effect", "is_equivalent"]


def judged(effect: Estimate, margin: float) -> dict[str, float]:
    """Return COLUMNS of one comparison.

    Args:
        effect: on the scale on which no change is 0: a difference, or the log of a ratio.
        margin: the largest effect that does not matter, on that scale; not negative.

    Returns:
        p: two-sided, of no change; margin; smallest_effect: seen with a chance of POWER; is_equivalent: 1 or 0. NaN
        where the effect has no standard error.
    """
    if not effect.error > 0:
        return dict.fromkeys(COLUMNS, np.nan)
    size = abs(effect.value)
    reach = stats.t.ppf([(1 + LEVEL) / 2, LEVEL, POWER], effect.df) * effect.error
    return {
        "p": float(2 * stats.t.sf(size / effect.error, effect.df)),
        "margin": margin,
        "smallest_effect": float(reach[0] + reach[2]),
        "is_equivalent": float(size + reach[1] < margin),
    }


def benjamini_hochberg(p: Array) -> Array:
    """Adjusted p values; those that are NaN take no part."""
    adjusted = np.full(len(p), np.nan)
    known = np.isfinite(p)
    if known.any():
        adjusted[known] = stats.false_discovery_control(p[known], method="bh")
    return adjusted


def with_verdicts(comparisons: pd.DataFrame) -> pd.DataFrame:
    """Add `p_adjusted` and `verdict` to comparisons with COLUMNS; invalid ones have neither.

    Args:
        comparisons: those that are read together, a row each, with `metric` and `invalid`; p values are adjusted
            within a metric.
    """
    judgeable = comparisons["p"].where(comparisons["invalid"].isna())
    groups = comparisons.groupby("metric", sort=False).indices.values()
    adjusted = np.full(len(comparisons), np.nan)
    for rows in groups:
        adjusted[rows] = benjamini_hochberg(judgeable.to_numpy(dtype=float)[rows])
    verdict = np.select(
        [np.isnan(adjusted), comparisons["is_equivalent"] == 1, adjusted <= 1 - LEVEL],
        ["", EQUIVALENT, CHANGED],
        UNDECIDED,
    )
    return comparisons.drop(columns="is_equivalent").assign(
        p_adjusted=adjusted, verdict=pd.Series([text or None for text in verdict], comparisons.index, object)
    )
