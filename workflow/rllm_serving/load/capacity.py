"""How many requests a second servers were measured to finish, for loads that are a share of it.

Apart from `arrivals`, which measuring imports: a change of the analysis must not mean measuring again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..analysis import request_metrics
from .traces import ArrivalError


def measured_capacity(paths: Mapping[str, Path], dataset: str) -> dict[str, float]:
    """Requests a second that each server finished, with as many at once as its experiment has: server -> rate.

    Of the batch load with the largest size at the largest budget: successful requests / (last end - first arrival),
    summed over repeats. Raises ArrivalError where a server finished none.
    """
    rates = {}
    for server, path in paths.items():
        frame = request_metrics.latencies(request_metrics.read(path))
        frame = frame[(frame["dataset"] == dataset) & frame["load"].str.startswith("batch-")]
        for name in ("load_level", "budget"):
            frame = frame[frame[name] == frame[name].max()]
        completed, seconds = int(frame["completed"].sum()), float(request_metrics.point_spans(frame)["seconds"].sum())
        if not completed or seconds <= 0:
            raise ArrivalError(
                f"{path}: no request of {dataset} ended well in its batches; a share of it means nothing"
            )
        rates[server] = completed / seconds
    return rates
