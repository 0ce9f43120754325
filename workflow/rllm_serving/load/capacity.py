"""How many requests a second saturated servers were measured to finish, for loads that are a share of it.

Apart from `arrivals`, which measuring imports: a change of the analysis must not mean measuring again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from ..analysis import request_metrics
from .trace_files import ArrivalError


def measured_capacity(paths: Mapping[str, Sequence[Path]], dataset: str, max_running_requests: int) -> dict[str, float]:
    """Requests a second that each server finished while it had all it could work on: server -> rate.

    Of the closed load with the largest size at the largest budget: well ended requests / seconds, both within the
    steady windows (see `steady_window`) of all points, those of several repeats and files added up.

    Args:
        paths: requests.parquet of each server: one, or those of several starts.
        dataset: whose points count.
        max_running_requests: what the servers work on at once; a load of fewer does not saturate them.

    Raises:
        ArrivalError: when a server has no closed load, none that is large enough, or fewer completions within the
            steady windows than twice the load's size.
    """
    return {server: _capacity(files, dataset, max_running_requests) for server, files in paths.items()}


def _capacity(files: Sequence[Path], dataset: str, max_running_requests: int) -> float:
    named = ", ".join(map(str, files))
    starts = []
    for file in files:
        frame = request_metrics.latencies(request_metrics.read(file))
        starts.append(frame[(frame["dataset"] == dataset) & frame["load"].str.startswith("closed-")])
    closed = pd.concat(starts, keys=range(len(starts)), names=["file", None])
    if closed.empty:
        raise ArrivalError(f"{named}: no closed load of {dataset} to measure capacity with; give its experiment one")
    for name in ("load_level", "budget"):
        closed = closed[closed[name] == closed[name].max()]
    size = int(closed["load_level"].iloc[0])
    if size < max_running_requests:
        raise ArrivalError(
            f"{named}: the largest closed load of {dataset} has {size} requests in flight, the server works on "
            f"{max_running_requests} at once (serving.max_running_requests); give the load at least that size"
        )
    windows = [steady_window(point, size) for _, point in closed.groupby(["file", "repeat"])]
    completed, seconds = (sum(part) for part in zip(*windows, strict=True))
    if completed < 2 * size:
        raise ArrivalError(
            f"{named}: {completed} requests of {dataset} ended well while {size} were in flight, a rate needs "
            f"{2 * size}; more questions or repeats are needed"
        )
    return completed / seconds


def steady_window(point: pd.DataFrame, size: int) -> tuple[int, float]:
    """Requests that ended well within the steady window of a point of a closed load, and its length (s).

    The window lasts from when the first `size` requests have been sent to when the last one is: then at least `size`
    are in flight. What ends behind it, as the server runs empty, is left out. All begin at once, so that answers of
    like lengths end in waves: with many requests a place, it matters little where the window cuts one.

    Args:
        point: rows of `request_metrics.latencies` of one point.
        size: requests in flight.
    """
    sent = point["sent"].dropna().sort_values().to_numpy()
    if len(sent) <= size:
        return 0, 0.0
    start, end = sent[size - 1], sent[-1]
    return int(((point["end"] > start) & (point["end"] <= end)).sum()), float(end - start)
