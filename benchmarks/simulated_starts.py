"""Simulated starts of servers whose truth is known, for `coverage`: each has a mood, each of its repeats one, too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from rllm_serving.analysis.intervals import Array

CONCURRENT = 16
TOKEN_S = 0.01


@dataclass(frozen=True)
class Size:
    """How much is measured. servers: of one model on one engine in the experiment; requests: of a repeat."""

    name: str
    servers: int
    starts: int
    repeats: int
    requests: int


MICRO = Size("micro", 7, 3, 1, 32)
PILOT = Size("micro pilot", 2, 2, 1, 32)
PAPER = Size("paper", 4, 3, 1, 192)
SIZES = (MICRO, PILOT, PAPER)
NOISE = ((0.05, 0.05), (0.05, 0.13), (0.2, 0.05), (0.2, 0.13))
"""sd of the logs of starts and of repeats."""
SHAPES = (1.0, 0.25, 0.1)

Start = Callable[[np.random.Generator, Size, Array], float]
"""A statistic of one start, from the speed factor of each of its repeats."""


def _lengths(rng: np.random.Generator, count: int) -> Array:
    return rng.lognormal(5.0, 0.6, count)


def _latencies(rng: np.random.Generator, size: Size, pace: Array) -> Array:
    return np.concatenate([_lengths(rng, size.requests) * TOKEN_S * p for p in pace])


def latency_mean(rng: np.random.Generator, size: Size, pace: Array) -> float:
    """E2E latency of requests that do not wait."""
    return float(_latencies(rng, size, pace).mean())


def latency_p50(rng: np.random.Generator, size: Size, pace: Array) -> float:
    """Median of the same."""
    return float(np.quantile(_latencies(rng, size, pace), 0.5, method="inverted_cdf"))


def latency_p90(rng: np.random.Generator, size: Size, pace: Array) -> float:
    """90 % quantile of the same."""
    return float(np.quantile(_latencies(rng, size, pace), 0.9, method="inverted_cdf"))


def _batches(rng: np.random.Generator, size: Size, pace: Array) -> list[tuple[Array, float]]:
    """Lengths (tokens) and pace of each batch."""
    return [(_lengths(rng, CONCURRENT), p) for p in pace for _ in range(size.requests // CONCURRENT)]


def throughput_batch(rng: np.random.Generator, size: Size, pace: Array) -> float:
    """Tokens / time of batches that wait for their longest request."""
    batches = _batches(rng, size, pace)
    return float(sum(b.sum() for b, _ in batches) / sum(b.max() * TOKEN_S * p for b, p in batches))


def straggler_share(rng: np.random.Generator, size: Size, pace: Array) -> float:
    """Share of a batch's time with fewer than half of its requests running."""
    return float(np.mean([1 - np.sort(b)[len(b) // 2] / b.max() for b, _ in _batches(rng, size, pace)]))


def kv_mean(rng: np.random.Generator, size: Size, pace: Array) -> float:
    """Mean tokens held in the KV cache while batches run: a request grows and then is gone."""
    batches = _batches(rng, size, pace)
    held = sum((b**2 / 2).sum() * TOKEN_S * p for b, p in batches)
    return float(held / sum(b.max() * TOKEN_S * p for b, p in batches))


def throughput_closed(rng: np.random.Generator, size: Size, pace: Array) -> float:
    """Tokens / time with always so many in flight."""
    tokens, seconds = 0.0, 0.0
    for p in pace:
        lengths = _lengths(rng, size.requests)
        free = np.zeros(CONCURRENT)
        for length in lengths:
            free[np.argmin(free)] += length * TOKEN_S * p
        tokens, seconds = tokens + lengths.sum(), seconds + free.max()
    return tokens / seconds


def _open(shape: float, waiting: bool) -> Start:
    """A queue of CONCURRENT places at 0.7 of its capacity under Gamma arrivals: latency, or tokens / time."""

    def statistic(rng: np.random.Generator, size: Size, pace: Array) -> float:
        tokens, seconds, latencies = 0.0, 0.0, []
        for p in pace:
            lengths = _lengths(rng, size.requests)
            gaps = rng.gamma(shape, 1, size.requests)
            times = np.cumsum(gaps) * size.requests / gaps.sum() * _lengths_mean() * TOKEN_S / CONCURRENT / 0.7
            free = np.zeros(CONCURRENT)
            ends = []
            for time, length in zip(times, lengths, strict=True):
                place = np.argmin(free)
                free[place] = max(free[place], time) + length * TOKEN_S * p
                ends.append(free[place])
            latencies.append(np.array(ends) - times)
            tokens, seconds = tokens + lengths.sum(), seconds + max(ends) - times[0]
        return float(np.concatenate(latencies).mean()) if waiting else tokens / seconds

    return statistic


def _lengths_mean() -> float:
    return float(np.exp(5.0 + 0.6**2 / 2))


STATISTICS: dict[str, tuple[Start, bool]] = {
    "latency mean": (latency_mean, False),
    "latency p50": (latency_p50, False),
    "latency p90": (latency_p90, False),
    "throughput, batch": (throughput_batch, False),
    "throughput, closed": (throughput_closed, False),
    **{f"throughput, open, shape {shape:g}": (_open(shape, False), False) for shape in SHAPES},
    **{f"latency mean, open, shape {shape:g}": (_open(shape, True), False) for shape in SHAPES},
    "straggler share": (straggler_share, True),
    "KV mean": (kv_mean, False),
}
"""Name -> a start's statistic, and whether starts are averaged as they are."""


def paces(rng: np.random.Generator, size: Size, noise: tuple[float, float]) -> Array:
    """Speed factor of each repeat of a start."""
    return np.exp(rng.normal(0, noise[0]) + rng.normal(0, noise[1], size.repeats))
