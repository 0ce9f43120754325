"""The journal of a run: every completed point is written to disk at once, whole or not at all.

A folder beside the run's outputs, `<run>.partial/`, holds `fingerprint.json` and three files a point. A rerun after a
failure reuses the points whose files are whole, if the fingerprint (what was measured, with what) is the same.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import UserError
from ..study.design import Run
from .paths import RunPaths
from .point_validity import invalid
from .rows import rows_with

MeasuredPoint = tuple[pa.Table, pa.Table, dict[str, Any]]
"""A point's rows of requests.parquet and of server.parquet, and its entry in run.json."""


log = logging.getLogger(__name__)


class WriteError(UserError):
    """A file of a run could not be written."""


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a crash at any moment leaves the whole file or the previous state.

    Raises:
        WriteError: when it cannot be written, as on a full disk.
    """
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise WriteError(
            f"cannot write {path}: {error.strerror}. Make room there, or allow writing. "
            "Finished points are kept; call snakemake again to go on."
        ) from error


def parquet_bytes(table: pa.Table) -> bytes:
    """A table as Parquet, compressed with zstd."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()


class Journal:
    """The completed points of one run.

    Attributes:
        folder: where it is.
    """

    def __init__(self, folder: Path, fingerprint: Mapping[str, str]) -> None:
        """Open the journal in `folder`; one with another fingerprint is deleted, since its numbers differ."""
        self.folder = folder
        marker = folder / "fingerprint.json"
        if folder.exists() and (reason := changed(_json(marker).get("fingerprint"), fingerprint)):
            log.warning("%s: its points are measured again: %s", folder, reason)
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if not marker.exists():
            write_atomically(marker, json.dumps({"fingerprint": fingerprint}).encode())

    def add(self, point: str, requests: pa.Table, server: pa.Table, record: Mapping[str, Any]) -> None:
        """Write a completed point; its .json comes last, because a point counts only when that is there."""
        write_atomically(self.folder / f"{point}.requests.parquet", parquet_bytes(requests))
        write_atomically(self.folder / f"{point}.server.parquet", parquet_bytes(server))
        write_atomically(self.folder / f"{point}.json", json.dumps(record).encode())

    def get(self, point: str, since: float = 0.0) -> MeasuredPoint | None:
        """Read a point; None when it is missing, not younger than `since` (s) or any of its files is damaged."""
        file = self.folder / f"{point}.json"
        record = _json(file)
        if not record or file.stat().st_mtime <= since:
            return None
        try:
            requests = pq.read_table(self.folder / f"{point}.requests.parquet")
            server = pq.read_table(self.folder / f"{point}.server.parquet")
        except (OSError, pa.ArrowException):
            return None
        return requests, server, record

    def reject(self, point: str, requests: pa.Table) -> Path:
        """Write the requests of an invalid point for the user to read; reruns ignore them. Returns the file."""
        path = self.folder / f"{point}.rejected.parquet"
        write_atomically(path, parquet_bytes(requests))
        return path

    def discard(self) -> None:
        """Remove the journal once the run's outputs are written."""
        shutil.rmtree(self.folder)


def changed(recorded: Any, fingerprint: Mapping[str, str]) -> str | None:
    """Say why points that were measured under another fingerprint are of no use; None where it is the same.

    Args:
        recorded: the fingerprint that they were measured under, as it was found.
        fingerprint: of now.
    """
    if recorded == fingerprint:
        return None
    if not isinstance(recorded, Mapping):
        return "they were measured by an earlier version of this workflow"
    parts = [name for name in {**recorded, **fingerprint} if recorded.get(name) != fingerprint.get(name)]
    return f"changed since they were measured: {', '.join(parts)}"


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def completed_points(
    run: Run, paths: RunPaths, fingerprint: Mapping[str, str], journal: Journal
) -> dict[str, MeasuredPoint]:
    """Read the points that need not be measured again, by name: of an earlier complete run, and of the journal.

    None that is older than `paths.forced`, which says when measuring was last forced. Invalid ones are left out where
    the config has these fail the run.
    """
    forced = paths.forced.stat().st_mtime if paths.forced.exists() else 0.0
    completed = _points_from_previous_run(run, paths, fingerprint, forced)
    for point in run.points:
        measured = journal.get(point.name, forced)
        if measured is not None and measured[2]["point"] == asdict(point):
            completed[point.name] = measured
    if run.measurement["on_invalid"] == "fail":
        # They were accepted under on_invalid: mark or under other limits.
        return {n: point for n, point in completed.items() if invalid(point[2], run.measurement) is None}
    return completed


def _points_from_previous_run(
    run: Run, paths: RunPaths, fingerprint: Mapping[str, str], forced: float
) -> dict[str, MeasuredPoint]:
    """Points of an earlier complete run that this one has too: one that grew (a budget more) measures what is new."""
    try:
        if paths.record.stat().st_mtime <= forced:
            return {}
        record = json.loads(paths.record.read_text())
        if reason := changed(record.get("fingerprint"), fingerprint):
            log.warning("%s: its points are measured again: %s", run.folder, reason)
            return {}
        requests, server = pq.read_table(paths.requests), pq.read_table(paths.server)
    except (OSError, ValueError, KeyError, pa.ArrowException):
        return {}
    sessions = {session["id"]: session for session in record["sessions"]}
    entries = {entry["name"]: {**entry, "session": sessions[entry["session"]]} for entry in record["points"]}
    points: dict[str, MeasuredPoint] = {}
    for point in run.points:
        entry = entries.get(point.name)
        if entry is not None and entry["point"] == asdict(point):
            points[point.name] = rows_with(requests, point.keys), rows_with(server, point.keys), entry
    return points
