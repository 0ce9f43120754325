"""The kernels and backends that an engine says it chose, from its log."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .engines.base import Engine


def selected_backends(engine: Engine, log: Path | str) -> dict[str, list[str]]:
    """Name (of `Engine.kernels`) -> the different values in order of appearance; without those the log lacks."""
    text = Path(log).read_text(encoding="utf-8", errors="replace")
    found = {name: re.findall(pattern, text, re.MULTILINE) for name, pattern in engine.kernels.items()}
    return {name: list(dict.fromkeys(values)) for name, values in found.items() if values}


def describe_backends(record: Mapping[str, Any]) -> str:
    """The kernels of the last server of a run (run.json) in words; empty where the log said nothing."""
    kernels: Mapping[str, list[str]] = record["sessions"][-1].get("kernels", {})
    return "; ".join(f"{name} {'/'.join(values)}" for name, values in kernels.items())
