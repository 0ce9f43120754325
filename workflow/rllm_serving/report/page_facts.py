"""What the page says about the study as a whole: machine, versions, what was measured, what is invalid, its noise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ..analysis.gates import GATES, OTHERWISE
from ..claims.summary import plain_rows
from .run_records import FINGERPRINT, SHORT
from .table_forms import DASH

GB = 1e9
FINGERPRINT_MEANS = {
    "version of measuring": "the way a point is measured",
    "code": "the code that measures",
    "config": "the run's part of the config: server options, sampling, seed, gates",
    "device": "CPU or GPU, and which one",
    "packages of the engine": "any package of the engine's environment",
    "model": "the checkpoint",
    "draft model": "the checkpoint of the draft model",
    "questions, prompts or arrivals": "a question, a prompt template or the schedule of requests",
}
"""Part of a run's fingerprint -> what it stands for, for readers."""


def machines(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the machines that runs were measured on: what each is, with its number of `runs`."""
    columns = ["device", "cpu", "cores", "memory_bytes", "gpus", "driver", "system"]
    counts = runs.groupby(columns, dropna=False, sort=False).size().reset_index(name="runs")
    memory: list[Any] = [f"{size / GB:.0f} GB" if size > 0 else None for size in counts["memory_bytes"]]
    return plain_rows(counts.assign(memory=memory, cores=counts["cores"].astype("Int64")))


def versions(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the environments of the engines: engine, version, Python, lock and the start of its SHA-256, runs."""
    columns = ["engine", "engine_version", "python", "lock", "lock_sha256"]
    counts = runs[columns].astype("string").fillna(DASH).value_counts(sort=False).reset_index(name="runs")
    counts["lock_sha256"] = counts["lock_sha256"].str[:SHORT]
    return plain_rows(counts.sort_values(columns))


def models(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the models, a row each: name, source, hub id, commit, parameters; their quantized forms are left out."""
    columns = ["model", "model_source", "model_id", "model_commit", "parameters"]
    own = runs.assign(quantized=runs["model_source"] == "quantized").sort_values(["model", "quantized"], kind="stable")
    found = own.drop_duplicates("model")[columns]
    sizes: list[Any] = [f"{count / 1e6:,.4g} M" if count > 0 else None for count in found["parameters"]]
    return plain_rows(found.assign(parameters=sizes))


def lone_models(pairs: Mapping[str, Mapping[str, str]]) -> list[dict[str, str]]:
    """Return the models that have no other one of their pair: `model`, and the `role` that is missing."""
    roles = {"llm": "RLLM", "rllm": "LLM"}
    return [
        {"model": model, "role": roles[role]}
        for models in pairs.values()
        for role, model in models.items()
        if len(models) == 1
    ]


def measured(runs: pd.DataFrame, points: pd.DataFrame, experiments: Sequence[str]) -> list[dict[str, Any]]:
    """Return a row an experiment, and `all`: servers, starts, points, invalid ones, requests, minutes."""
    rows = [
        _measured(name, runs[runs["experiment"] == name], points[points["experiment"] == name]) for name in experiments
    ]
    return [*rows, _measured("all", runs, points)]


def _measured(name: str, runs: pd.DataFrame, points: pd.DataFrame) -> dict[str, Any]:
    servers = runs[["experiment", "engine", "model", "quantization", "setup"]].drop_duplicates()
    return {
        "experiment": name,
        "servers": len(servers),
        "starts": len(runs),
        "points": len(points),
        "invalid": int(points["invalid"].notna().sum()),
        "requests": int(points["num_requests"].sum()),
        "starting": duration(runs["startup_s"].sum()),
        "measuring": duration(runs["measured_s"].sum()),
    }


def duration(seconds: float) -> str:
    """Return a time as people say it."""
    minutes = seconds / 60
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if minutes < 180 else f"{minutes / 60:.1f} h"


def invalid_reasons(points: pd.DataFrame) -> list[dict[str, Any]]:
    """Return why points are invalid, the most frequent reason first; a point may have several."""
    texts = points["invalid"].dropna().astype(str)
    meaning = {name: gate.text for name, gate in GATES.items()} | {OTHERWISE: "see the options below"}
    names = [name for text in texts for name in meaning if name in text]
    unknown = sum(not any(name in text for name in meaning) for text in texts)
    counts = Counter(names) + Counter({"other": unknown})
    return [
        {
            "gate": name,
            "points": count,
            "share": f"{count / len(points):.0%}",
            "meaning": meaning.get(name, "see `invalid` in points.csv"),
        }
        for name, count in counts.most_common()
    ]


def missing_metrics(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Return what engines did not measure of themselves: engine, version, columns with the reason, runs."""
    columns = ["engine", "engine_version", "missing_metrics"]
    told = runs[columns].dropna(subset=["missing_metrics"]).astype("string").fillna(DASH)
    return plain_rows(told.value_counts(sort=False).reset_index(name="runs").sort_values(columns))


def span(runs: pd.DataFrame) -> dict[str, Any] | None:
    """Return when the first point started and the last ended, and the time between; None where no run tells."""
    started, ended = (
        pd.to_datetime(runs[name].dropna(), utc=True, format="ISO8601") for name in ("started_at", "ended_at")
    )
    if not len(started) or not len(ended):
        return None
    between = (ended.max() - started.min()).total_seconds()
    return {
        "from": f"{started.min():%Y-%m-%d %H:%M}",
        "to": f"{ended.max():%Y-%m-%d %H:%M} UTC",
        "took": duration(between),
    }


def fingerprints(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Return what a run is measured again for: `part`, what it `means`, and the `values` that the study's runs have."""
    parts = [str(name) for name in runs if str(name).startswith(FINGERPRINT)]
    return [
        {
            "part": part.removeprefix(FINGERPRINT),
            "means": FINGERPRINT_MEANS.get(part.removeprefix(FINGERPRINT), ""),
            "values": sorted(runs[part].dropna().astype(str).unique()),
        }
        for part in parts
    ]


def unique(runs: pd.DataFrame, column: str) -> list[str]:
    """Return the different values of a column as texts, in their order."""
    values = runs[column].dropna()
    whole = values.astype("Int64") if pd.api.types.is_float_dtype(values) else values
    return list(whole.astype(str).unique())
