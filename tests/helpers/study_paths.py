"""The files of a run that asks the hard questions of the small study."""

from __future__ import annotations

from pathlib import Path

from conftest import ROOT
from rllm_serving.measurement.paths import RunPaths


def run_paths(
    study: Path, folder: Path, python: Path | None = None, environment: Path | None = None, model: Path | None = None
) -> RunPaths:
    """Where a run is written, in a new folder below `folder`; without an environment the server already runs."""
    out = folder / "run"
    out.mkdir()
    return RunPaths(
        python=python,
        environment=environment,
        model=model,
        draft=None,
        arrivals=None,
        datasets={"arith-hard": study / "resources/datasets/arith-hard.parquet"},
        templates={"arith-hard": ROOT / "resources/prompts/arith.jinja"},
        requests=out / "requests.parquet",
        server=out / "server.parquet",
        record=out / "run.json",
        forced=folder / "forced",
        server_log=out / "server.log",
    )
