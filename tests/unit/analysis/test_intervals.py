"""Intervals over questions against known cases; `test_coverage` has how often they hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
from rllm_serving.analysis.intervals import (
    MIN_CLUSTERS,
    codes,
    estimate,
    from_log,
    mean,
    paired_difference,
    paired_log_ratio,
    quantiles,
    share,
)


def test_the_error_of_a_mean_is_the_known_one() -> None:
    values = np.random.default_rng(2).normal(5, 1, 900)
    found = estimate(values, np.arange(900))
    assert found.value == pytest.approx(values.mean())
    assert found.error == pytest.approx(values.std(ddof=1) / 30) and found.df > 600
    interval = found.interval()
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * values.std() / 30, rel=0.01)


def test_repeats_of_a_question_widen_the_interval() -> None:
    rng = np.random.default_rng(3)
    question = np.repeat(np.arange(50), 8)
    values = 10 + rng.normal(0, 1, 50)[question] + rng.normal(0, 0.1, 400)
    alone, together = mean(values, np.arange(400)), mean(values, question)
    assert alone.value == together.value
    # eight all but equal repeats hold no more than one: sqrt(8) times wider
    assert (together.high - together.low) / (alone.high - alone.low) == pytest.approx(8**0.5, rel=0.15)


def test_long_tails_tell_less_of_their_variance() -> None:
    rng = np.random.default_rng(9)
    normal, tailed = rng.normal(9, 1, 30), rng.lognormal(0, 1.2, 30)
    assert estimate(normal, np.arange(30)).df == pytest.approx(29, abs=3)
    assert estimate(tailed, np.arange(30)).df < 12


@pytest.mark.parametrize("hits", [0, 1])
def test_a_share_of_none_or_all_is_not_certain(hits: int) -> None:
    found = share(np.full(48, float(hits)), np.repeat(np.arange(12), 4))
    assert found.value == hits
    # Wilson's end for 12 independent ones is z^2 / (12 + z^2) = 0.24, with few degrees of freedom a little wider.
    assert 0.24 < (1 - found.low if hits else found.high) < 0.32 and (found.high if hits else 1 - found.low) == 1
    many = share(np.full(2000, float(hits)), np.arange(2000))
    assert many.high - many.low == pytest.approx(1.96**2 / 2000, rel=0.05)


def test_a_share_of_independent_answers_is_wilsons() -> None:
    hits = (np.arange(1000) % 10 == 0).astype(float)
    found = share(hits, np.arange(1000))
    # Wilson 1927: (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)
    assert (found.value, found.low, found.high) == pytest.approx((0.1, 0.0829, 0.1202), abs=5e-4)


def test_answers_that_go_together_count_once() -> None:
    hits = np.repeat((np.arange(100) % 4 == 0).astype(float), 5)
    together, apart = share(hits, np.repeat(np.arange(100), 5)), share(hits, np.arange(500))
    once = share(hits[::5], np.arange(100))
    assert (together.low, together.high) == pytest.approx((once.low, once.high), abs=2e-3)
    assert together.high - together.low > 2 * (apart.high - apart.low)


def test_answers_that_never_differed_do_not_prove_that_none_does() -> None:
    right = (np.arange(96) % 2).astype(float)
    found = paired_difference(right, right, np.repeat(np.arange(32), 3)).interval()
    assert found.value == 0
    # As wide as Tango's interval (1998) of 96 pairs without a difference: z^2 / (n + z^2).
    assert found.high == pytest.approx(3.84 / 99.84, rel=0.15) and found.low == -found.high


def test_pairing_removes_what_the_questions_have_in_common() -> None:
    rng = np.random.default_rng(3)
    hard = rng.lognormal(5, 1.5, 40)
    found = from_log(paired_log_ratio(hard * rng.normal(1.1, 0.02, 40), hard, np.arange(40)))
    assert 1.05 < found.low < found.value < found.high < 1.15
    alone = mean(hard, np.arange(40))
    assert alone.high / alone.low > 1.5


def test_only_rows_that_both_sides_have_are_compared() -> None:
    mine, other = np.array([2.0, 4, 6, 8, 10, np.nan, 99]), np.array([1.0, 2, 3, 4, 5, 77, np.nan])
    assert np.exp(paired_log_ratio(mine, other, np.arange(7)).value) == pytest.approx(2)
    assert paired_difference(mine, other, np.arange(7)).value == pytest.approx(3)
    nothing = paired_log_ratio(mine, np.zeros(7), np.arange(7))
    assert np.isnan([*nothing]).all()


def test_a_quantile_beyond_what_the_sample_tells_has_no_interval() -> None:
    values = np.random.default_rng(8).normal(0, 1, 700)
    found = quantiles(values, np.arange(700), [0.5, 0.9, 0.99])
    assert all(one.low < one.value < one.high for one in found)
    for count, known in ((661, [True, True, False]), (63, [True, False, False])):
        some = quantiles(values[:count], np.arange(count), [0.5, 0.9, 0.99])
        assert [not np.isnan(one.low) for one in some] == known


def test_interval_of_a_quantile_agrees_with_a_plain_bootstrap() -> None:
    rng = np.random.default_rng(6)
    values = rng.lognormal(0, 1, 3000)
    (found,) = quantiles(values, codes(np.arange(3000)), [0.99])
    plain = [np.quantile(rng.choice(values, 3000), 0.99, method="inverted_cdf") for _ in range(1000)]
    low, high = np.quantile(plain, [0.025, 0.975])
    assert found.value == np.quantile(values, 0.99, method="inverted_cdf")
    assert (found.low, found.high) == pytest.approx((low, high), rel=0.06)


def test_weighted_quantiles() -> None:
    value, weight = np.array([3.0, 1.0, 2.0, np.nan]), np.array([1.0, 8.0, 1.0, 50.0])
    found = quantiles(value, np.arange(4), [0.5, 0.8, 0.9, 0.99], weight)
    assert [x.value for x in found] == [1, 1, 2, 3]


def test_a_weighted_mean_is_a_ratio_of_sums() -> None:
    found = mean(np.array([1.0, 9.0, np.nan]), np.arange(3), np.array([1.0, 3.0, 5.0]))
    assert found.value == pytest.approx(7)


def test_few_questions_have_a_value_and_no_interval() -> None:
    values, cluster = np.array([1.0, 3.0] * (MIN_CLUSTERS - 1)), np.repeat(np.arange(MIN_CLUSTERS - 1), 2)
    (middle,) = quantiles(values, cluster, [0.5])
    for found, value in ((mean(values, cluster), 2), (middle, 1), (share((values > 2).astype(float), cluster), 0.5)):
        assert found.value == pytest.approx(value)
        assert np.isnan([found.low, found.high]).all()


def test_nothing_known_is_missing() -> None:
    empty = np.array([np.nan, np.nan])
    assert np.isnan(mean(empty, np.arange(2))).all()
    assert np.isnan(share(empty, np.arange(2))).all()
    assert np.isnan(quantiles(empty, np.arange(2), [0.5])[0]).all()
