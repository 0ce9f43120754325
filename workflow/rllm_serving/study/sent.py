"""How much servers that already run will be sent: requests and tokens, against what the config allows."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .config_engines import engine_entries
from .config_errors import ConfigError
from .design import Run
from .estimate import Plan

WARM_UP_SIZE = 16
"""Requests of a round of warming up, where the load has no size."""
PROMPT_TOKENS = 150
"""Of a question with its template, about."""


@dataclass(frozen=True)
class Sent:
    """What one server is sent by all experiments together, warming up included.

    Attributes:
        requests: their number.
        usual: tokens of prompts and answers, with answers of usual length.
        most: likewise, with answers that all use their whole budget.
    """

    requests: int = 0
    usual: float = 0.0
    most: float = 0.0

    def __add__(self, other: Sent) -> Sent:
        return Sent(self.requests + other.requests, self.usual + other.usual, self.most + other.most)


def sent_to(plan: Plan, engine: str) -> Sent:
    """Return what all runs on a server that already runs send it.

    Raises:
        ConfigError: where a dataset's size is not known before it is fetched.
    """
    runs = [run for run in plan.study.runs.values() if run.engine == engine]
    return sum((part for run in runs for part in _parts(plan, run)), Sent())


def _parts(plan: Plan, run: Run) -> Iterator[Sent]:
    assert run.endpoint is not None
    for point in run.points:
        requests = plan.requests(point)
        if requests is None:
            raise ConfigError(
                f"experiments.{run.experiment}.num_questions: missing, but needed for engine '{run.engine}': how many "
                f"requests it is sent cannot be known before datasets.{point.dataset} is fetched"
            )
        yield Sent(requests, *(requests * (PROMPT_TOKENS + mean) for mean, _ in plan.lengths(run, point)))
    largest = max(run.points, key=lambda point: (point.load.size or 0, point.budget))
    warming = 1 + run.endpoint["warm_up_rounds"] * min(largest.load.size or WARM_UP_SIZE, run.endpoint["max_in_flight"])
    yield Sent(warming, *(warming * (PROMPT_TOKENS + mean) for mean, _ in plan.lengths(run, largest)))


def notes(plan: Plan) -> list[str]:
    """Return a line on each server that already runs, for the user to see before anything is sent.

    Raises:
        ConfigError: when one would be sent more requests than its `max_requests`, or their number is not known.
    """
    lines = []
    for engine, entry in engine_entries(plan.study.config["engines"]).items():
        if not entry:
            continue
        sent = sent_to(plan, engine)
        if sent.requests > entry["max_requests"]:
            raise ConfigError(
                f"engines.{engine}.max_requests: the study would send {sent.requests:,} requests, warming up included; "
                f"allowed: up to {entry['max_requests']:,}; ask fewer questions, or raise it"
            )
        lines.append(
            f"engines.{engine}: {sent.requests:,} requests will be sent to {entry['url']}, about {_count(sent.usual)} "
            f"tokens with their answers, {_count(sent.most)} at most; it already runs: it is not started, and nothing "
            f"of it is controlled{_missing_key(entry)}"
        )
    return lines


def _missing_key(entry: Mapping[str, Any]) -> str:
    """What is to be done about a key that is not there; only a run needs it."""
    name = entry.get("api_key_env")
    return f"; export {name}, its key, before it is measured" if name and not os.environ.get(name) else ""


def _count(tokens: float) -> str:
    return f"{tokens / 1e6:,.1f} million" if tokens >= 1e6 else f"{tokens:,.0f}"
