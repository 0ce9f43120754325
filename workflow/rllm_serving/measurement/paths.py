"""Where a run's files are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunPaths:
    """Files and folders of a run: what it reads, and the three files that it writes."""

    python: Path
    environment: Path
    model: Path
    draft: Path | None
    arrivals: Path | None
    datasets: Mapping[str, Path]
    templates: Mapping[str, Path]
    requests: Path
    server: Path
    record: Path
    server_log: Path

    @property
    def partial(self) -> Path:
        """The journal's folder, beside the run's own."""
        folder = self.requests.parent
        return folder.with_name(folder.name + ".partial")
