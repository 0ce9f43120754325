"""The files of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunPaths:
    """Files and folders of a run.

    Attributes:
        python: interpreter of the engine's environment; like the next two None for a server that already runs.
        environment: environment.json, the packages in it.
        model: model.json, the model's folder and digest.
        draft: the same of the model that proposes tokens.
        arrivals: request times and lengths of its open-loop points.
        datasets: dataset -> its questions.
        templates: dataset -> its prompt template.
        requests: requests.parquet, which it writes.
        server: server.parquet, which it writes.
        record: run.json, which it writes.
        server_log: the server's log.
        forced: file that was last touched when the user forced everything to be measured again.
    """

    python: Path | None
    environment: Path | None
    model: Path | None
    draft: Path | None
    arrivals: Path | None
    datasets: Mapping[str, Path]
    templates: Mapping[str, Path]
    requests: Path
    server: Path
    record: Path
    server_log: Path
    forced: Path

    @property
    def partial(self) -> Path:
        """The journal's folder, beside the run's own."""
        folder = self.requests.parent
        return folder.with_name(folder.name + ".partial")

    def package(self, module: str) -> Path | None:
        """The folder of a module in the engine's environment; None where there is none."""
        if self.python is None:
            return None
        return next(self.python.parent.parent.glob(f"lib/python3*/site-packages/{module}"), None)
