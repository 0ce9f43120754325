"""Intervals over clusters: percentile bootstrap (Efron and Tibshirani 1993, ch. 13), for quantiles Woodruff's.

A cluster is what was sampled independently: a question (all its repeats come along when it is drawn), a
batch, a block of time. A resample draws as many clusters as there are, with replacement; it is kept as the
number of times each cluster was drawn, so a statistic of all resamples is one matrix product. The seed is
fixed: the same data give the same interval. Below two clusters with data there is no interval (NaN).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

RESAMPLES = 1000
LEVEL = 0.95
SEED = 20251018
# Clusters beyond this number are put together in groups: the interval stays valid, memory and time bounded.
MAX_CLUSTERS = 1000

Array = NDArray[np.float64]
Codes = NDArray[np.int64]


class Interval(NamedTuple):
    """A statistic with its interval (95 %), in the statistic's own unit; NaN where there is none."""

    value: float
    low: float
    high: float


MISSING = Interval(np.nan, np.nan, np.nan)


# 4 MB each at most: the parts that questions are broken down into differ in their numbers of questions.
@lru_cache(maxsize=64)
def draws(clusters: int) -> NDArray[np.float32]:
    """How often each resample drew each cluster: shape (clusters, RESAMPLES), columns sum to `clusters`."""
    picks = np.random.default_rng(SEED).integers(0, clusters, (RESAMPLES, clusters))
    picks += np.arange(RESAMPLES)[:, None] * clusters
    counts = np.bincount(picks.ravel(), minlength=RESAMPLES * clusters).reshape(RESAMPLES, clusters)
    return np.ascontiguousarray(counts.T, dtype=np.float32)


def codes(labels: ArrayLike) -> Codes:
    """Cluster number (0, 1, ...) of each label; at most MAX_CLUSTERS different ones."""
    inverse: Codes = np.unique(np.asarray(labels), return_inverse=True)[1]
    return inverse % MAX_CLUSTERS


ENDS = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]


def _intervals(resampled: NDArray[np.floating], filled: Sequence[int]) -> list[tuple[float, float]]:
    """Ends of the interval of each row of resampled values; filled: clusters with data of each row."""
    whole = np.isfinite(resampled).all(axis=1)
    ends = np.full((2, len(resampled)), np.nan)
    if whole.any():
        ends[:, whole] = np.quantile(resampled[whole], ENDS, axis=1)
    for row in np.flatnonzero(~whole):
        if np.isfinite(resampled[row]).any():
            ends[:, row] = np.nanquantile(resampled[row], ENDS)
    ends[:, np.asarray(filled) < 2] = np.nan
    return list(zip(*ends.tolist(), strict=True))


Resampled = tuple[float, NDArray[np.float32], int]
"""sum(numerator) / sum(denominator), the same of each resample, number of clusters with data."""


def _resample(numerators: Sequence[Array], denominators: Sequence[Array], cluster: Codes, size: int) -> list[Resampled]:
    """Several ratios over the same clusters, in one product; the value is NaN where there are no data."""
    values, tops, bottoms = [], [], []
    for numerator, denominator in zip(numerators, denominators, strict=True):
        known = np.isfinite(numerator) & np.isfinite(denominator)
        top, bottom = np.where(known, numerator, 0.0), np.where(known, denominator, 0.0)
        whole = float(bottom.sum())
        values.append(float(top.sum()) / whole if whole > 0 else np.nan)
        tops.append(np.bincount(cluster, top, size))
        bottoms.append(np.bincount(cluster, bottom, size))
    # Most ratios have the same denominator, which is drawn once.
    different, which = np.unique(bottoms, axis=0, return_inverse=True)
    drawn = np.stack([*tops, *different]).astype(np.float32) @ draws(size)
    above, below = drawn[: len(tops)], drawn[len(tops) :][which]
    resampled = np.divide(above, below, out=np.full(above.shape, np.nan, np.float32), where=below > 0)
    filled = [int(np.count_nonzero(bottom)) for bottom in bottoms]
    return list(zip(values, resampled, filled, strict=True))


def _size(cluster: Codes) -> int:
    return int(cluster.max(initial=-1)) + 1


def ratios(numerators: Sequence[Array], denominators: Sequence[Array], cluster: Codes) -> list[Interval]:
    """sum(numerator) / sum(denominator) of each pair; rows where either is NaN are left out.

    numerators, denominators: each of shape (n,); cluster: shape (n,), numbers from `codes`.
    """
    if not len(cluster) or not numerators:
        return [MISSING] * len(numerators)
    resampled = _resample(numerators, denominators, cluster, _size(cluster))
    ends = _intervals(np.stack([rows for _, rows, _ in resampled]), [filled for *_, filled in resampled])
    return [
        MISSING if np.isnan(result[0]) else Interval(result[0], *pair)
        for result, pair in zip(resampled, ends, strict=True)
    ]


def ratio(numerator: Array, denominator: Array, cluster: Codes) -> Interval:
    """One of `ratios`."""
    return ratios([numerator], [denominator], cluster)[0]


Sums = tuple[Array, Array, Codes]
"""Numerator, denominator and cluster of a ratio of sums, as `ratio` takes them."""


class Comparison(NamedTuple):
    """A statistic on two sides, with candidate / baseline and candidate - baseline."""

    value: Interval
    baseline: Interval
    ratio: Interval
    difference: Interval


def paired(candidate: Sums, baseline: Sums) -> Comparison:
    """Two ratios of sums, their quotient and their difference, with paired intervals.

    Cluster k of both was drawn from the same unit (the same question, the same batch), so a resample draws it on
    both sides: what the units have in common cancels. The quotient is missing where the baseline is 0, and has no
    interval where it is 0 in a resample.
    """
    size = max(_size(candidate[2]), _size(baseline[2]))
    if not size:
        return Comparison(MISSING, MISSING, MISSING, MISSING)
    (left,), (right,) = (_resample([top], [bottom], cluster, size) for top, bottom, cluster in (candidate, baseline))
    return _compared([left], [right])[0]


def paired_means(candidate: Sequence[Array], baseline: Sequence[Array], cluster: Codes) -> list[Comparison]:
    """`paired` of several means over the same clusters on both sides; values that are NaN are left out."""
    if not len(cluster) or not candidate:
        return [Comparison(MISSING, MISSING, MISSING, MISSING)] * len(candidate)
    columns = [*candidate, *baseline]
    resampled = _resample(columns, [np.ones(len(cluster))] * len(columns), cluster, _size(cluster))
    return _compared(resampled[: len(candidate)], resampled[len(candidate) :])


def _compared(candidate: Sequence[Resampled], baseline: Sequence[Resampled]) -> list[Comparison]:
    candidate_rows, baseline_rows = (np.stack([rows for _, rows, _ in side]) for side in (candidate, baseline))
    # Where the baseline is 0 in a resample, the quotient has no interval.
    nothing = (baseline_rows == 0).any(axis=1)
    quotients = np.divide(
        candidate_rows,
        baseline_rows,
        out=np.full_like(candidate_rows, np.nan),
        where=~nothing[:, None] & (baseline_rows != 0),
    )
    filled = np.array([[one for *_, one in side] for side in (candidate, baseline)])
    fewest = filled.min(axis=0)
    ends = _intervals(
        np.concatenate([candidate_rows, baseline_rows, quotients, candidate_rows - baseline_rows]),
        [*filled.ravel(), *fewest, *fewest],
    )
    comparisons = []
    for number, ((value, *_), (baseline_value, *_)) in enumerate(zip(candidate, baseline, strict=True)):
        pairs = [ends[number + part * len(candidate)] for part in range(4)]
        values = [value, baseline_value, value / baseline_value if baseline_value else np.nan, value - baseline_value]
        estimates = [MISSING if np.isnan(x) else Interval(x, *pair) for x, pair in zip(values, pairs, strict=True)]
        comparisons.append(Comparison(*estimates))
    return comparisons


def means(columns: Sequence[Array], cluster: Codes, weights: Array | None = None) -> list[Interval]:
    """(Weighted) mean of each column's values that are not NaN; their number in a resample varies with its clusters."""
    counts = np.ones(len(cluster)) if weights is None else weights
    return ratios([values * counts for values in columns], [counts] * len(columns), cluster)


def mean(values: Array, cluster: Codes, weights: Array | None = None) -> Interval:
    """One of `means`."""
    return means([values], cluster, weights)[0]


def quantiles(values: Array, cluster: Codes, shares: Sequence[float], weights: Array | None = None) -> list[Interval]:
    """Weighted quantiles with Woodruff's interval (Woodruff 1952; Sarndal et al. 1992, ch. 5.11).

    A quantile is the smallest value at or below which lies at least that share of the weight. The share of weight up to
    it is a ratio of sums over clusters, so it has a standard error; the interval's ends are the quantiles at the ends
    of the share's t interval. Where these reach 0 or 1 the sample does not say how far the quantile may lie from its
    smallest or largest value: then there is no interval.

    Args:
        values: shape (n,); rows that are NaN or weigh nothing are left out.
        cluster: shape (n,), numbers from `codes`.
        shares: of the quantiles, 0-1.
        weights: shape (n,), 1 each by default.

    Returns:
        An interval a share.
    """
    weight = np.ones(len(values)) if weights is None else weights
    known = np.isfinite(values) & (weight > 0)
    if not known.any():
        return [MISSING] * len(shares)
    if not known.all():
        values, weight, cluster = values[known], weight[known], cluster[known]
    order = np.argsort(values)
    ordered, upto = values[order], np.cumsum(weight[order])
    upto /= upto[-1]

    def at(share: float) -> float:
        # The tolerance keeps 0.9 * 10 = 9.000000000000002 from skipping the ninth of ten values.
        return float(ordered[np.searchsorted(upto, share * (1 - 1e-9))])

    whole = np.bincount(cluster, weight)
    clusters = int(np.count_nonzero(whole))
    result = []
    for share in shares:
        value = at(share)
        low = high = np.nan
        if clusters > 1:
            below = np.bincount(cluster, np.where(values <= value, weight, 0), len(whole))
            residual = below - below.sum() / whole.sum() * whole
            error = np.sqrt(clusters / (clusters - 1) * np.square(residual).sum()) / whole.sum()
            reach = stats.t.ppf((1 + LEVEL) / 2, clusters - 1) * error
            if error > 1e-9 and share - reach > 0 and share + reach < 1:
                low, high = at(share - reach), at(share + reach)
        result.append(Interval(value, low, high))
    return result
