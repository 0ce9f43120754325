"""Percentile bootstrap over clusters (Efron and Tibshirani 1993, ch. 13), all resamples at once.

A cluster is what was sampled independently: a question (all its repeats come along when it is drawn), a
batch, a block of time. A resample draws as many clusters as there are, with replacement; it is kept as the
number of times each cluster was drawn, so a statistic of all resamples is one matrix product. The seed is
fixed: the same data give the same interval. Below two clusters with data there is no interval (NaN).
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 1000
LEVEL = 0.95
SEED = 20251018
# Clusters beyond this number are put together in groups: the interval stays valid, memory and time bounded.
MAX_CLUSTERS = 1000
# Support points of the resampled distributions, see `_bins`.
BINS = 512

Array = NDArray[np.float64]
Codes = NDArray[np.int64]


class Estimate(NamedTuple):
    """A statistic with its interval (95 %), in the statistic's own unit; NaN where there is none."""

    value: float
    low: float
    high: float


MISSING = Estimate(np.nan, np.nan, np.nan)


@lru_cache(maxsize=4)
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


def _interval(resampled: NDArray[np.floating], filled: int) -> tuple[float, float]:
    if filled < 2 or not np.isfinite(resampled).any():
        return np.nan, np.nan
    low, high = np.nanquantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _resample(
    numerator: Array, denominator: Array, cluster: Codes, size: int
) -> tuple[float, NDArray[np.float32], int] | None:
    """sum(numerator) / sum(denominator), the same of each resample, number of clusters with data; None without any."""
    known = np.isfinite(numerator) & np.isfinite(denominator)
    top, bottom = numerator[known], denominator[known]
    if not bottom.sum() > 0:
        return None
    parts = np.stack([np.bincount(cluster[known], part, size) for part in (top, bottom)])
    tops, bottoms = parts.astype(np.float32) @ draws(size)
    resampled = np.divide(tops, bottoms, out=np.full(RESAMPLES, np.nan, np.float32), where=bottoms > 0)
    return float(top.sum() / bottom.sum()), resampled, int(np.count_nonzero(parts[1]))


def _size(cluster: Codes) -> int:
    return int(cluster.max(initial=-1)) + 1


def ratio(numerator: Array, denominator: Array, cluster: Codes) -> Estimate:
    """sum(numerator) / sum(denominator); rows where either is NaN are left out.

    numerator, denominator: shape (n,); cluster: shape (n,), numbers from `codes`.
    """
    found = _resample(numerator, denominator, cluster, _size(cluster))
    return MISSING if found is None else Estimate(found[0], *_interval(*found[1:]))


Sums = tuple[Array, Array, Codes]
"""Numerator, denominator and cluster of a ratio of sums, as `ratio` takes them."""


class Comparison(NamedTuple):
    """A statistic on two sides, with mine / reference and mine - reference."""

    value: Estimate
    reference: Estimate
    ratio: Estimate
    difference: Estimate


def paired(mine: Sums, reference: Sums) -> Comparison:
    """Two ratios of sums, their quotient and their difference, with paired intervals.

    Cluster k of both was drawn from the same unit (the same question, the same batch), so a resample draws it on
    both sides: what the units have in common cancels. The quotient is missing where the reference is 0, and has no
    interval where it is 0 in a resample.
    """
    size = max(_size(mine[2]), _size(reference[2]))
    found = [_resample(*side, size) for side in (mine, reference)]
    value, other = (MISSING if side is None else Estimate(side[0], *_interval(*side[1:])) for side in found)
    one, two = found
    if one is None or two is None:
        return Comparison(value, other, MISSING, MISSING)
    filled = min(one[2], two[2])
    quotient, difference = MISSING, Estimate(one[0] - two[0], *_interval(one[1] - two[1], filled))
    if two[0] != 0:
        ends = (np.nan, np.nan) if (two[1] == 0).any() else _interval(one[1] / two[1], filled)
        quotient = Estimate(one[0] / two[0], *ends)
    return Comparison(value, other, quotient, difference)


def mean(values: Array, cluster: Codes, weights: Array | None = None) -> Estimate:
    """(Weighted) mean of the values that are not NaN; their number in a resample varies with its clusters."""
    counts = np.ones(len(values)) if weights is None else weights
    return ratio(values * counts, counts, cluster)


def _bins(cumulated: Array) -> Codes:
    """Bin of each sorted value: its own up to BINS values, else by rank, ever finer towards the upper tail.

    At share p a bin holds 2 sqrt(1 - p) / BINS of the weight: 0.3 % at the median, 0.04 % at p99, below what
    a bootstrap of some hundred questions can resolve.
    """
    if len(cumulated) <= BINS:
        return np.arange(len(cumulated))
    share = np.clip((cumulated - cumulated[0] / 2) / cumulated[-1], 0, 1)
    bins = np.minimum((1 - np.sqrt(1 - share)) * BINS, BINS - 1).astype(np.int64)
    return np.cumsum(np.diff(bins, prepend=bins[0]) > 0)


def quantiles(values: Array, cluster: Codes, shares: list[float], weights: Array | None = None) -> list[Estimate]:
    """Weighted quantiles: the smallest value at or below which lies at least that share of the weight.

    values, weights (default 1), cluster: shape (n,); rows that are NaN or weigh nothing are left out. Returns
    an estimate a share. The value is exact; the interval too up to BINS values, beyond that see `_bins`.
    """
    weight = np.ones(len(values)) if weights is None else weights
    known = np.isfinite(values) & (weight > 0)
    if not known.any():
        return [MISSING] * len(shares)
    size = int(cluster.max()) + 1
    order = np.flatnonzero(known)[np.argsort(values[known], kind="stable")]
    value, weight, cluster = values[order], weight[order], cluster[order]
    cumulated = np.cumsum(weight, dtype=np.float64)
    # The tolerance keeps 0.9 * 10 = 9.000000000000002 from skipping the ninth of ten values.
    wanted = np.asarray(shares) * (1 - 1e-9)
    exact = value[np.searchsorted(cumulated, wanted * cumulated[-1])]
    bins = _bins(cumulated)
    top = value[np.append(np.flatnonzero(np.diff(bins)), len(bins) - 1)]
    held = np.bincount(bins * size + cluster, weight, len(top) * size).reshape(len(top), size)
    below = np.cumsum(held.astype(np.float32) @ draws(size), axis=0, dtype=np.float64)  # (bins, resamples)
    filled = int(np.count_nonzero(held.any(axis=0)))
    found = [np.minimum((below < share * below[-1]).sum(axis=0), len(top) - 1) for share in wanted]
    resampled = [np.where(below[-1] > 0, top[index], np.nan) for index in found]
    return [Estimate(float(x), *_interval(r, filled)) for x, r in zip(exact, resampled, strict=True)]
