"""When a server has warmed up: caches are filled and kernels compiled once its last rounds ran at the same rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..load.stream import RequestResult
from ..study.design import Load, Point

OPEN_CONNECTIONS = 16
"""Opened before the first request of a load that has no size; more are opened while it runs."""


def warm_up_point(points: Sequence[Point]) -> Point:
    """Return what a server is warmed up with for points: a batch of the largest load at the largest budget."""
    largest = max(points, key=lambda point: (point.load.size or OPEN_CONNECTIONS, point.budget))
    size = largest.load.size or OPEN_CONNECTIONS
    questions = -(-size // largest.n_samples)
    return replace(
        largest, load=Load(type="batch", size=size), num_questions=min(questions, largest.num_questions or questions)
    )


def tokens_per_s(start: float, results: Sequence[RequestResult]) -> float:
    """Output tokens of a round / (its last token - its start), 0 where no request ended well.

    Args:
        start: of the round, on the clock of the results (s).
        results: its requests.
    """
    completed = [result for result in results if result.last_token is not None]
    tokens = sum(result.output_tokens or 0 for result in completed)
    ends = [result.last_token for result in completed if result.last_token is not None]
    return tokens / (max(ends) - start) if ends and max(ends) > start else 0.0


def is_steady(rates: Sequence[float], agreement: float) -> bool:
    """Whether the last two rounds ran at the same rate, up to a share of the faster."""
    return len(rates) >= 2 and min(rates[-2:]) > 0 and min(rates[-2:]) >= (1 - agreement) * max(rates[-2:])
