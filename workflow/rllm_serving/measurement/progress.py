"""How far a run is, and how long the rest will take."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

log = logging.getLogger(__name__)


class Progress:
    """A log line a step, with the time that the rest will take at the pace so far."""

    def __init__(self, total: int, now: Callable[[], float] = time.monotonic) -> None:
        self.total, self.done, self.now, self.started = total, 0, now, now()

    def step(self, name: str) -> None:
        """Log that the point `name` is done."""
        self.done += 1
        pace = (self.now() - self.started) / self.done
        left = pace * (self.total - self.done)
        log.info("point %d/%d %s done, %.0f s left", self.done, self.total, name, left)
