"""What the runs of a study recorded about themselves, a row a run: when, where, with which versions and content."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

FINGERPRINT = "hash: "
"""Start of the columns with a run's fingerprint, `hash: PART`: when a part changes, the run is measured again."""
SHORT = 12
"""Hex digits of a hash that people compare."""


def collect(files: Iterable[Path | str]) -> pd.DataFrame:
    """Return a row a run.

    Columns: experiment, engine, model, quantization, setup, start; `seed`; `engine_version`, `python`, `lock`,
    `lock_sha256`; `model_source`, `model_id`, `model_commit`, `parameters`; `url` (of a server that
    already runs: the machine's columns are then the client's); `device`, `cpu`, `cores`, `memory_bytes`, `gpus`
    (names), `driver`, `system`; `git_commit`; `started_at`, `ended_at` (ISO 8601); `startup_s` (of all its
    server starts), `measured_s` (of its points), `restarts`, `points`, `invalid_points`; `missing_metrics` (columns of
    server.parquet that the engine could not fill, and why); the parts of its fingerprint.
    Missing is null.

    Args:
        files: each run's run.json.
    """
    return pd.DataFrame([_row(json.loads(Path(file).read_text(encoding="utf-8"))) for file in files])


def _row(record: Mapping[str, Any]) -> dict[str, Any]:
    sessions, points = record.get("sessions", []), record.get("points", [])
    last = sessions[-1] if sessions else {}
    hardware, environment, model = last.get("hardware", {}), record.get("environment", {}), record.get("model", {})
    return {
        **record["server"],
        "start": record["start"],
        "seed": record.get("config", {}).get("seed"),
        "engine_version": environment.get("engine_version"),
        "python": environment.get("python"),
        "lock": environment.get("lock"),
        "lock_sha256": environment.get("lock_sha256"),
        "model_source": model.get("source"),
        "model_id": model.get("id"),
        "model_commit": model.get("commit"),
        "parameters": model.get("parameters"),
        "url": (last.get("endpoint") or {}).get("url"),
        "device": record.get("device"),
        "cpu": hardware.get("cpu"),
        "cores": hardware.get("cores"),
        "memory_bytes": hardware.get("memory_bytes"),
        "gpus": _gpu_names(hardware.get("gpus") or []),
        "driver": hardware.get("driver"),
        "system": hardware.get("system"),
        "git_commit": last.get("git_commit"),
        "started_at": points[0]["started_at"] if points else None,
        "ended_at": _end(points[-1]) if points else None,
        "startup_s": sum(_starting_s(session) for session in sessions),
        "measured_s": sum(point.get("duration_s") or 0.0 for point in points),
        "restarts": max((session.get("restart") or 0 for session in sessions), default=0),
        "points": len(points),
        "invalid_points": sum(point.get("invalid") is not None for point in points),
        "missing_metrics": "; ".join(f"{k}: {v}" for k, v in record.get("missing_metrics", {}).items()) or None,
        **{f"{FINGERPRINT}{part}": text[:SHORT] for part, text in record.get("fingerprint", {}).items()},
    }


def _starting_s(session: Mapping[str, Any]) -> float:
    """Seconds of a session's server starts: the measured one, and the one before it that compiled its kernels."""
    cold_s = (session.get("kernel_cache") or {}).get("cold_seconds")
    return float((session.get("startup_seconds") or 0.0) + (cold_s or 0.0))


def _gpu_names(gpus: list[Any]) -> str | None:
    """Names of a run's GPUs, each once with its number; None where it had none."""
    names = [str(gpu.get("name", "GPU")) if isinstance(gpu, Mapping) else str(gpu) for gpu in gpus]
    return ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names)) or None


def _end(point: Mapping[str, Any]) -> str:
    started = datetime.fromisoformat(point["started_at"])
    return (started + timedelta(seconds=point.get("duration_s") or 0.0)).isoformat(timespec="seconds")
