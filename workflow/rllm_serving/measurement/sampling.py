"""When a server is sampled: often at first, then at the config's rate, so that short points have enough samples too."""

from __future__ import annotations

HIGHEST_HZ = 50.0
"""Samples a second at most: a sample costs the server a page of metrics."""
SPACING = 12.0
"""A sample comes after this part of the time that the point has lasted: 20 samples of a point of 0.5 s, 40 of 2.5 s."""


def interval(elapsed_s: float, hz: float) -> float:
    """Seconds until the next sample of a point that has lasted so long; hz: samples a second of a long point."""
    return min(1 / hz, max(1 / HIGHEST_HZ, elapsed_s / SPACING))
