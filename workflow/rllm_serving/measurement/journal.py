"""The journal of a run: every finished point is on disk at once, whole or not at all.

A folder beside the run's outputs, `<run>.partial/`, holds `fingerprint.json` and three files a point. A rerun after
a failure takes up the points whose files are whole, if the fingerprint (what was measured, with what) is the same.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


class WriteError(OSError):
    """A file that could not be written; the message names it."""


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file that is, after a crash at any moment, either whole or not there."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)  # half a file on a full disk only takes room
        raise WriteError(f"cannot write {path}: {error.strerror}") from error


def parquet_bytes(table: pa.Table) -> bytes:
    """A table as Parquet, compressed with zstd."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()


class Journal:
    """The points of one run that are measured and safe."""

    def __init__(self, folder: Path, fingerprint: str) -> None:
        """Open the journal; one with another fingerprint is thrown away, for its numbers belong to another run."""
        self.folder = folder
        marker = folder / "fingerprint.json"
        if folder.exists() and _json(marker).get("fingerprint") != fingerprint:
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if not marker.exists():
            write_atomically(marker, json.dumps({"fingerprint": fingerprint}).encode())

    def add(self, point: str, requests: pa.Table, server: pa.Table, record: Mapping[str, Any]) -> None:
        """Record a finished point. The .json comes last: a point counts only when it is there."""
        write_atomically(self.folder / f"{point}.requests.parquet", parquet_bytes(requests))
        write_atomically(self.folder / f"{point}.server.parquet", parquet_bytes(server))
        write_atomically(self.folder / f"{point}.json", json.dumps(record).encode())

    def get(self, point: str) -> tuple[pa.Table, pa.Table, dict[str, Any]] | None:
        """The point's requests, samples and record, or None when it is missing or any of its files is damaged."""
        record = _json(self.folder / f"{point}.json")
        if not record:
            return None
        try:
            requests = pq.read_table(self.folder / f"{point}.requests.parquet")
            server = pq.read_table(self.folder / f"{point}.server.parquet")
        except (OSError, pa.ArrowException):
            return None
        return requests, server, record

    def reject(self, point: str, requests: pa.Table) -> Path:
        """Keep the requests of an invalid point for reading, outside of what a rerun takes up."""
        path = self.folder / f"{point}.rejected.parquet"
        write_atomically(path, parquet_bytes(requests))
        return path

    def discard(self) -> None:
        """Remove the journal once the run's outputs are written."""
        shutil.rmtree(self.folder)


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
