"""How often servers that are the same were called different: an A/A test of the whole instrument."""

from __future__ import annotations

import pandas as pd
from scipy import stats

from .intervals import LEVEL
from .verdicts import CHANGED

COLUMNS = ["metric", "comparisons", "outside", "rate", "rate_low", "rate_high", "changed"]
ALL = "all"


def false_positives(comparison: pd.DataFrame) -> pd.DataFrame:
    """One row a metric, and one of ALL.

    Columns: metric; comparisons: those with a p value; outside: of these, the ones whose 95 % interval leaves out "no
    change" (p < 0.05); rate = outside / comparisons, with the interval of a binomial share (Clopper and Pearson 1934),
    which is too narrow as far as comparisons share a baseline; changed: those whose verdict was so, after the
    adjustment for many comparisons.

    Args:
        comparison: rows of `comparison.compare` with verdicts, of servers that are all the same.
    """
    known = comparison[comparison["p"].notna() & comparison["invalid"].isna()]
    groups = [*known.groupby("metric", sort=False), (ALL, known)]
    rows = []
    for metric, part in groups:
        outside = int((part["p"] < 1 - LEVEL).sum())
        rate, low, high = float("nan"), float("nan"), float("nan")
        if len(part):
            ends = stats.binomtest(outside, len(part)).proportion_ci(LEVEL)
            rate, low, high = outside / len(part), ends.low, ends.high
        rows.append([metric, len(part), outside, rate, low, high, int((part["verdict"] == CHANGED).sum())])
    return pd.DataFrame(rows, columns=COLUMNS)
