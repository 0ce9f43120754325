"""The bootstrap against known cases."""

from __future__ import annotations

import numpy as np
import pytest
from rllm_serving.analysis import intervals
from rllm_serving.analysis.intervals import codes, mean, quantiles, ratio
from scipy import stats


def test_mean_of_normal_data_is_covered_as_often_as_promised() -> None:
    rng = np.random.default_rng(1)
    cluster, hits = np.arange(60), 0
    for _ in range(400):
        found = mean(rng.normal(3, 1, 60), cluster)
        hits += found.low <= 3 <= found.high
    assert 0.91 <= hits / 400 <= 0.98


def test_interval_of_the_mean_has_the_known_width() -> None:
    values = np.random.default_rng(2).normal(0, 1, 900)
    found = mean(values, np.arange(900))
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / 30, rel=0.1)


def test_repeats_of_a_question_widen_the_interval() -> None:
    rng = np.random.default_rng(3)
    question = np.repeat(np.arange(50), 8)
    values = rng.normal(0, 1, 50)[question] + rng.normal(0, 0.1, 400)
    alone, together = mean(values, np.arange(400)), mean(values, question)
    assert alone.value == together.value
    # eight all but equal repeats hold no more than one: sqrt(8) times wider
    assert (together.high - together.low) / (alone.high - alone.low) == pytest.approx(8**0.5, rel=0.15)


def test_same_data_same_interval() -> None:
    values = np.random.default_rng(4).normal(0, 1, 40)
    first = mean(values, np.arange(40))
    intervals.draws.cache_clear()
    assert mean(values, np.arange(40)) == first


@pytest.mark.slow
@pytest.mark.parametrize(("clusters", "share"), [(16, 0.5), (32, 0.5), (500, 0.5), (64, 0.9), (500, 0.9), (1000, 0.99)])
def test_interval_of_a_quantile_covers_it(clusters: int, share: float) -> None:
    """Clusters of four alike values, as the repeats of a question are; the truth is known."""
    rng = np.random.default_rng(5)
    cluster = np.repeat(codes(np.arange(clusters)), 4)
    truth, hits, trials = stats.norm.ppf(share), 0, 400
    for _ in range(trials):
        shared, own = rng.normal(0, 0.8**0.5, clusters)[cluster], rng.normal(0, 0.2**0.5, len(cluster))
        (found,) = quantiles(shared + own, cluster, [share])
        hits += found.low <= truth <= found.high
    assert 0.92 <= hits / trials <= 0.98


def test_a_quantile_beyond_what_the_sample_tells_has_no_interval() -> None:
    values = np.random.default_rng(8).normal(0, 1, 16)
    (middle, last) = quantiles(values, np.arange(16), [0.5, 0.99])
    assert middle.low < middle.value < middle.high
    assert last.value == values.max() and np.isnan([last.low, last.high]).all()


def test_interval_of_a_quantile_agrees_with_a_plain_bootstrap() -> None:
    rng = np.random.default_rng(6)
    values = rng.lognormal(0, 1, 3000)
    (found,) = quantiles(values, codes(np.arange(3000)), [0.99])
    plain = [np.quantile(rng.choice(values, 3000), 0.99, method="inverted_cdf") for _ in range(1000)]
    low, high = np.quantile(plain, [0.025, 0.975])
    assert found.value == np.quantile(values, 0.99, method="inverted_cdf")
    assert (found.low, found.high) == pytest.approx((low, high), rel=0.05)


def test_interval_of_a_quantile_of_very_many_values_agrees_with_a_plain_bootstrap() -> None:
    """Gaps of 150 requests, each with a pace of its own and tokens that count: what inter-token latency is made of."""
    rng = np.random.default_rng(7)
    cluster = np.repeat(np.arange(150), 2000)
    values = rng.lognormal(0, 0.3, 150)[cluster] * rng.lognormal(0, 1, len(cluster))
    weights = rng.integers(1, 5, len(cluster)).astype(float)
    shares = [0.5, 0.9, 0.99]
    found = quantiles(values, cluster, shares, weights)
    order = np.argsort(values)
    plain = []
    for _ in range(300):
        drawn = np.bincount(rng.integers(0, 150, 150), minlength=150)
        upto = np.cumsum(weights[order] * drawn[cluster[order]])
        plain.append(values[order][np.searchsorted(upto, np.array(shares) * upto[-1])])
    exact = values[order][np.searchsorted(np.cumsum(weights[order]), np.array(shares) * weights.sum())]
    for one, value, (low, high) in zip(found, exact, np.quantile(plain, [0.025, 0.975], axis=0).T, strict=True):
        assert one.value == value and one.low < value < one.high
        assert (one.low, one.high) == pytest.approx((low, high), abs=0.15 * (high - low))


def test_weighted_quantiles() -> None:
    value, weight = np.array([3.0, 1.0, 2.0, np.nan]), np.array([1.0, 8.0, 1.0, 50.0])
    found = quantiles(value, np.arange(4), [0.5, 0.8, 0.9, 0.99], weight)
    assert [x.value for x in found] == [1, 1, 2, 3]


def test_ratio_of_sums() -> None:
    found = ratio(np.array([1.0, 9.0, np.nan]), np.array([1.0, 1.0, 5.0]), np.arange(3))
    assert found.value == 5
    assert (found.low, found.high) == (1, 9)


def test_one_cluster_has_a_value_and_no_interval() -> None:
    values, cluster = np.array([1.0, 3.0]), np.array([0, 0])
    (middle,) = quantiles(values, cluster, [0.5])
    for found, value in ((mean(values, cluster), 2), (middle, 1)):
        assert found.value == value
        assert np.isnan([found.low, found.high]).all()


def test_nothing_known_is_missing() -> None:
    empty = np.array([np.nan, np.nan])
    assert np.isnan(mean(empty, np.arange(2))).all()
    assert np.isnan(quantiles(empty, np.arange(2), [0.5])[0]).all()


def test_many_clusters_are_grouped() -> None:
    labels = [f"q{i}" for i in range(5000)]
    assert len(set(codes(labels))) == intervals.MAX_CLUSTERS
