"""Intervals for what a model says: its questions are the clusters.

A question is drawn once and asked often: its repeats come along with it. Ratios of sums over questions have the
linearised (Taylor) standard error of cluster sampling (Sarndal et al. 1992, ch. 5.5) and Student's t with one degree of
freedom fewer than there are questions, still fewer where residuals have long tails; shares have Wilson's interval with
a design effect, so that it holds at 0 and 1 too; quantiles have Woodruff's. benchmarks/coverage.py shows how often each
covers a known truth. Below MIN_CLUSTERS questions with data there is no interval (NaN).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

LEVEL = 0.95
MIN_CLUSTERS = 5
"""Questions below which a standard error says nothing."""
NEEDED = {0.9: 64, 0.99: 662}
"""Independent values that a quantile's interval needs (order statistics; the early stopping of MLPerf inference)."""

Array = NDArray[np.float64]
Codes = NDArray[np.int64]


class Interval(NamedTuple):
    """A statistic with its interval (95 %), in the statistic's own unit; NaN where there is none."""

    value: float
    low: float
    high: float


class Estimate(NamedTuple):
    """A statistic with its standard error and degrees of freedom; NaN where there is none."""

    value: float
    error: float
    df: float

    def interval(self, level: float = LEVEL) -> Interval:
        """Return the t interval of a confidence level."""
        reach = float(stats.t.ppf((1 + level) / 2, self.df)) * self.error if self.df > 0 else np.nan
        return Interval(self.value, self.value - reach, self.value + reach)


MISSING = Interval(np.nan, np.nan, np.nan)
NO_ESTIMATE = Estimate(np.nan, np.nan, np.nan)


def codes(labels: ArrayLike) -> Codes:
    """Cluster number (0, 1, ...) of each label."""
    inverse: Codes = np.unique(np.asarray(labels), return_inverse=True)[1]
    return inverse


def _sums(values: Array, weights: Array, cluster: Codes) -> tuple[Array, Array]:
    """Sums of values x weights and of weights, a cluster with data each; rows where either is NaN are left out."""
    known = np.isfinite(values) & np.isfinite(weights)
    size = int(cluster.max(initial=-1)) + 1
    tops = np.bincount(cluster[known], (values * weights)[known], size).astype(float)
    bottoms = np.bincount(cluster[known], weights[known], size).astype(float)
    filled = bottoms > 0
    return tops[filled], bottoms[filled]


def _linearised(tops: Array, bottoms: Array) -> Estimate:
    clusters = len(bottoms)
    if not clusters:
        return NO_ESTIMATE
    value = float(tops.sum() / bottoms.sum())
    if clusters < MIN_CLUSTERS:
        return Estimate(value, np.nan, np.nan)
    squares = np.square((tops - value * bottoms) / bottoms.mean())
    error = float(np.sqrt(squares.sum() / (clusters * (clusters - 1))))
    return Estimate(value, error, variance_df(squares))


def variance_df(squares: Array) -> float:
    """Degrees of freedom of a variance over clusters, from the squares of their residuals.

    Few questions with long tails tell less of their variance: the df whose chi-square has the variance that the fourth
    moment gives (Satterthwaite 1946).
    """
    clusters = len(squares)
    excess = max(0.0, float(np.square(squares).mean() / squares.mean() ** 2) - 3) if squares.any() else 0.0
    return 2 / (2 / (clusters - 1) + excess / clusters)


def further_pairs(clusters: int, requests: float) -> float:
    """Variance that two further pairs which differ once add to a difference of shares (Agresti and Min 2005).

    Args:
        clusters: number of questions.
        requests: mean number of each.
    """
    return 1 / (requests * (clusters + 1) * (clusters + 2))


def estimate(values: Array, cluster: Codes, weights: Array | None = None) -> Estimate:
    """(Weighted) mean of the values that are not NaN, over clusters.

    Args:
        values: shape (n,).
        cluster: shape (n,), numbers from `codes`.
        weights: shape (n,), 1 each by default.
    """
    return _linearised(*_sums(values, np.ones(len(values)) if weights is None else weights, cluster))


def mean(values: Array, cluster: Codes, weights: Array | None = None) -> Interval:
    """Return the (weighted) mean of what cannot be negative, with an interval on the log scale: lengths are skewed."""
    return from_log(_on_log_scale(estimate(values, cluster, weights)))


def _on_log_scale(found: Estimate) -> Estimate:
    if not found.value > 0:
        return NO_ESTIMATE if np.isnan(found.value) else Estimate(-np.inf, np.nan, np.nan)
    return Estimate(float(np.log(found.value)), found.error / found.value, found.df)


def from_log(found: Estimate, level: float = LEVEL) -> Interval:
    """Return the interval of exp(statistic), of an estimate on the log scale."""
    value, low, high = np.exp(found.interval(level))
    return Interval(float(value), float(low), float(high))


def share(hits: Array, cluster: Codes) -> Interval:
    """Return the share of rows that are 1 (not 0), with Wilson's interval for a clustered sample.

    The rows count as n / design effect independent ones. The design effect is that of the linearised variance, mixed
    with that of wholly alike answers a question as if one more cluster had shown these: where few clusters differ from
    the rest, their variance is known badly, and at a share of 0 or 1 not at all. Degrees of freedom as in Korn and
    Graubard (1998).
    """
    tops, bottoms = _sums(hits, np.ones(len(hits)), cluster)
    found = _linearised(tops, bottoms)
    if np.isnan(found.error):
        return Interval(found.value, np.nan, np.nan)
    clusters, rows, p = len(bottoms), float(bottoms.sum()), found.value
    extreme = p <= 0 or p >= 1
    alike = 1 / clusters
    observed = alike if extreme else max(found.error**2 / (p * (1 - p)), 1 / rows)
    informative = min(int(np.count_nonzero(tops > 0)), int(np.count_nonzero(tops < bottoms)))
    weight = 1 / (informative + 1)
    count = 1 / ((1 - weight) * observed + weight * max(observed, alike))
    upper = (1 + LEVEL) / 2
    count = min(rows, count * (stats.norm.ppf(upper) / stats.t.ppf(upper, clusters - 1)) ** 2)
    return _wilson(p, count)


def _wilson(p: float, count: float) -> Interval:
    z = stats.norm.ppf((1 + LEVEL) / 2)
    middle = (p + z * z / 2 / count) / (1 + z * z / count)
    reach = z / (1 + z * z / count) * np.sqrt(p * (1 - p) / count + z * z / 4 / count**2)
    return Interval(p, float(max(0.0, middle - reach)), float(min(1.0, middle + reach)))


def paired_difference(candidate: Array, baseline: Array, cluster: Codes) -> Estimate:
    """Mean of candidate - baseline over rows that have both; cluster k of both is the same question.

    For values of 0 and 1, two further pairs that differ once (Agresti and Min 2005) enter the standard error, so that
    answers that never differed do not pretend to an exact 0.
    """
    difference = candidate - baseline
    tops, bottoms = _sums(difference, np.ones(len(difference)), cluster)
    found = _linearised(tops, bottoms)
    if np.isnan(found.error):
        return found
    more = further_pairs(len(bottoms), float(bottoms.mean()))
    return found._replace(error=float(np.sqrt(found.error**2 + more)))


def paired_log_ratio(candidate: Array, baseline: Array, cluster: Codes) -> Estimate:
    """Log of mean(candidate) / mean(baseline) over rows that have both; cluster k of both is the same question."""
    both = np.isfinite(candidate) & np.isfinite(baseline)
    candidate, baseline, cluster = candidate[both], baseline[both], cluster[both]
    if not baseline.sum() > 0:
        return NO_ESTIMATE
    filled = np.bincount(cluster) > 0
    tops, bottoms = (np.bincount(cluster, side)[filled].astype(float) for side in (candidate, baseline))
    found = _linearised(tops, bottoms)
    return _on_log_scale(found) if found.value > 0 else NO_ESTIMATE


def weighted_quantiles(values: Array, weights: Array, shares: Sequence[float]) -> list[float]:
    """Return the smallest values at or below which lie at least these shares of the weight.

    Args:
        values: shape (n,), none of them NaN.
        weights: shape (n,), not negative.
        shares: 0-1.
    """
    order = np.argsort(values)
    upto = np.cumsum(weights[order])
    upto /= upto[-1]
    # The tolerance keeps 0.9 * 10 = 9.000000000000002 from skipping the ninth of ten values.
    places = np.searchsorted(upto, np.asarray(shares) * (1 - 1e-9))
    return [float(value) for value in values[order][places]]


def quantiles(values: Array, cluster: Codes, shares: Sequence[float], weights: Array | None = None) -> list[Interval]:
    """Weighted quantiles with Woodruff's interval (Woodruff 1952; Sarndal et al. 1992, ch. 5.11).

    A quantile is the smallest value at or below which lies at least that share of the weight. The share of weight up to
    it is a ratio of sums over clusters, so it has a standard error; the interval's ends are the quantiles at the ends
    of the share's t interval. Where these reach 0 or 1, or there are fewer clusters than NEEDED, the sample does not
    say how far the quantile may lie: then there is no interval.

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
    clusters = len(np.unique(cluster))
    result = []
    for share, value in zip(shares, weighted_quantiles(values, weight, shares), strict=True):
        low = high = np.nan
        if clusters >= NEEDED.get(share, MIN_CLUSTERS):
            found = _linearised(*_sums((values <= value).astype(float), weight, cluster))
            inner = Estimate(share, found.error, found.df).interval()
            if found.error > 1e-9 and inner.low > 0 and inner.high < 1:
                low, high = weighted_quantiles(values, weight, [inner.low, inner.high])
        result.append(Interval(value, low, high))
    return result
