"""How much time clusters are asked for, under the limit that their queues set."""

from __future__ import annotations

import math
from dataclasses import replace

from .design import Run
from .estimate import UNKNOWN_H, Plan


class JobTimes:
    """Minutes that jobs are granted: the plan's estimates with room to spare, runs at most `max_run_minutes`.

    A run that is ended goes on after its last finished point, so that the limit costs it the point at hand.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.limit: int | None = plan.study.config["max_run_minutes"]

    def run_minutes(self, run: Run, attempt: int) -> int:
        """Minutes of an attempt at a run: ever more, up to the limit."""
        minutes = self.plan.minutes(run) * attempt
        return minutes if self.limit is None else min(minutes, self.limit)

    def retries(self) -> int | None:
        """How often the longest run must be tried again under the limit; None (as `--retries` says) without one."""
        if self.limit is None:
            return None
        # As many as it needs beyond the first, and one for a fault.
        return math.ceil(max(map(self.plan.minutes, self.plan.study.runs.values()), default=0) / self.limit)

    def quantizing_minutes(self, model: str, quantization: str, attempt: int) -> int:
        """Minutes of an attempt at quantizing a model: twice the most that it may take, and half an hour."""
        estimate = self.plan.quantizing(model, quantization)
        return attempt * math.ceil(60 * (UNKNOWN_H if estimate is None else 2 * estimate.most_h + 0.5))

    def notes(self) -> list[str]:
        """What the user should know of the limit, a line each: points that may never end under it."""
        if self.limit is None:
            return []
        experiments = self.plan.study.experiments.items()
        longest = {name: max(map(self._longest_point, runs)) for name, runs in experiments if runs}
        return [
            f"max_run_minutes: {self.limit} may be too few for experiment '{name}': with its server's start a point "
            f"may take {minutes:.0f}, and one that is cut off begins anew; allow more"
            for name, minutes in longest.items()
            if minutes > self.limit
        ]

    def _longest_point(self, run: Run) -> float:
        """Minutes of a run that has only the longest of its points, at most; 0 where it is not known."""
        estimates = [self.plan.run(replace(run, points=(point,))) for point in run.points]
        return max((60 * estimate.most_h for estimate in estimates if estimate is not None), default=0.0)
