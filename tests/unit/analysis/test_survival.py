"""Kaplan-Meier against values worked out by hand, and against what censoring would otherwise do to a mean."""

from __future__ import annotations

import numpy as np
import pytest
from rllm_serving.analysis import survival

NAN = np.nan


def test_kaplan_meier_by_hand() -> None:
    # at 1: 1 of 4; one leaves at 2; at 3: 1 of the 2 left; one leaves at 4
    time, until = np.array([1.0, NAN, 3.0, NAN]), np.array([9.0, 2.0, 9.0, 4.0])
    times, upto = survival.kaplan_meier(time, until)
    assert times.tolist() == [1, 3] and upto.tolist() == pytest.approx([1 / 4, 1 - 3 / 4 / 2])
    assert survival.quantiles(time, until, [0.25, 0.5, 0.9])[:2] == [1, 3]
    assert np.isnan(survival.quantiles(time, until, [0.9])[0])
    assert survival.restricted_mean(time, until, 4.0) == pytest.approx(1 + 2 * 3 / 4 + 1 * 3 / 8)
    assert np.isnan(survival.restricted_mean(time, until, 4.1))  # nobody was watched for so long


def test_without_censoring_they_are_the_plain_ones() -> None:
    time = np.array([5.0, 1, 2, 4, 3])
    assert survival.restricted_mean(time, time, 5.0) == pytest.approx(3)
    assert survival.restricted_mean(time, time, 99.0) == pytest.approx(3)  # nobody waits any more
    assert survival.quantiles(time, time, [0.5, 0.9]) == [3, 5]


def test_whoever_was_cut_off_is_not_left_out() -> None:
    rng = np.random.default_rng(1)
    wanted = rng.exponential(10, 4000)
    budget = 12.0
    time = np.where(wanted <= budget, wanted, NAN)
    until = np.minimum(wanted, budget)
    found = survival.restricted_mean(time, until, budget)
    assert found == pytest.approx(np.minimum(wanted, budget).mean())
    assert np.nanmean(time) < 0.75 * found  # of those who answered alone
    assert survival.quantiles(time, until, [0.5])[0] == pytest.approx(10 * np.log(2), rel=0.05)


def test_nobody_answered() -> None:
    time, until = np.full(3, NAN), np.array([1.0, 2.0, 3.0])
    assert np.isnan(survival.quantiles(time, until, [0.5])[0])
    assert survival.restricted_mean(time, until, 3.0) == 3
    assert np.isnan(survival.observed_up_to(time, time))
