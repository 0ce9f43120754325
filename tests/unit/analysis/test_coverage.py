"""Intervals hold a known truth as often as they promise: the main rows of benchmarks/coverage.py."""

from __future__ import annotations

import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))

import coverage
import simulated_starts

TRIALS = 400
# 93 % are wanted; less than 91 % in so many trials is chance once in thirty times that 93 % is the truth.
LEAST = 0.91

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("size", simulated_starts.SIZES, ids=lambda size: size.name)
@pytest.mark.parametrize(
    "name",
    [
        *("latency mean", "latency p50", "latency p90", "throughput, batch", "throughput, closed"),
        *("throughput, open, shape 0.25", "straggler share", "KV mean"),
    ],
)
def test_times_rates_and_gauges(name: str, size: simulated_starts.Size) -> None:
    for count in coverage.of_starts(name, size, (0.05, 0.13), TRIALS).values():
        assert not count.trials or (count.given == TRIALS and count.coverage >= LEAST)


@pytest.mark.parametrize("asked", coverage.ASKED, ids=lambda asked: asked.name)
@pytest.mark.parametrize("accuracy", [0.5, 0.9, 0.97, 1 - 1e-6])
def test_accuracy(asked: coverage.Asked, accuracy: float) -> None:
    for count in coverage.of_accuracy(asked, accuracy, 0.4, TRIALS).values():
        assert count.given == TRIALS and count.coverage >= LEAST


@pytest.mark.parametrize("asked", coverage.ASKED, ids=lambda asked: asked.name)
@pytest.mark.parametrize("accuracy", [0.5, 0.9, 1 - 1e-6])
def test_worth(asked: coverage.Asked, accuracy: float) -> None:
    for count in coverage.of_worth(asked, accuracy, 0.4, TRIALS).values():
        assert count.given == TRIALS and count.coverage >= LEAST


@pytest.mark.parametrize("asked", coverage.ASKED, ids=lambda asked: asked.name)
def test_lengths(asked: coverage.Asked) -> None:
    for count in coverage.of_tokens(asked, 0.3, 0.5, TRIALS).values():
        assert count.coverage >= LEAST
