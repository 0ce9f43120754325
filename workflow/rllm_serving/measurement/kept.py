"""What earlier attempts at a run left: finished points, which it need not measure again."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..analysis import validity
from ..study.design import Run
from . import rows
from .journal import Journal
from .paths import RunPaths

MeasuredPoint = tuple[pa.Table, pa.Table, dict[str, Any]]
"""A point's rows of requests.parquet and of server.parquet, and its entry in run.json."""


def completed_points(run: Run, places: RunPaths, fingerprint: str, journal: Journal) -> dict[str, MeasuredPoint]:
    """Points of the run by name: of its files, if it was complete before, and of the journal, if it was not."""
    done = _points_from_previous_run(run, places, fingerprint)
    for point in run.points:
        kept = journal.get(point.name)
        if kept is not None and kept[2]["point"] == asdict(point):
            done[point.name] = kept
    if run.measurement["on_invalid"] == "fail":
        # Points that were marked, or fine by gates that are closer now, are not what this config asks for.
        limits = validity.limits(run.measurement)
        done = {n: kept for n, kept in done.items() if validity.invalid(kept[2]["validity"], limits) is None}
    return done


def _points_from_previous_run(run: Run, places: RunPaths, fingerprint: str) -> dict[str, MeasuredPoint]:
    """Points of an earlier complete run that this one also wants.

    A run that grew (a budget more) measures only what is new, one that shrank nothing. When its points are
    the same, the user has asked for it again (--forcerun): then everything is measured anew.
    """
    try:
        record = json.loads(places.record.read_text())
        if record["fingerprint"] != fingerprint:
            return {}
        requests, server = pq.read_table(places.requests), pq.read_table(places.server)
    except (OSError, ValueError, KeyError, pa.ArrowException):
        return {}
    sessions = {session["id"]: session for session in record["sessions"]}
    known = {e["name"]: {**e, "session": sessions[e["session"]]} for e in record["points"]}
    found: dict[str, MeasuredPoint] = {}
    for point in run.points:
        entry = known.get(point.name)
        if entry is not None and entry["point"] == asdict(point):
            mine = rows.rows_with(requests, point.keys), rows.rows_with(server, point.keys)
            found[point.name] = (*mine, entry)
    return {} if len(found) == len(run.points) == len(known) else found
