"""The table of two studies side by side, as CSV (raw numbers), Markdown and LaTeX (for reading)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ..analysis.comparison import RATES
from ..analysis.metric import ENDS
from ..analysis.metrics import REGISTRY
from .table_forms import DASH, Table, cell, latex, markdown

KEYS = ["experiment", "engine", "model", "quantization", "setup", "dataset", "load", "budget"]
READ = [*KEYS, "metric", "then", "now", "change", "verdict"]


def for_reading(comparison: pd.DataFrame) -> Table:
    """Return `studies.compare` as texts: values with intervals in display units, changes as ratios or points."""
    rows = [_texts(row) for row in comparison.to_dict("records")]
    frame = pd.DataFrame(rows, columns=READ)
    return Table(READ, [], frame.assign(invalid=comparison["invalid"].to_numpy()))


def _texts(row: Mapping[Any, Any]) -> list[Any]:
    metric = REGISTRY[row["metric"]]

    def numbers(part: str, factor: float) -> str:
        return cell(*(row[f"{part}{end}"] * factor for end in ENDS))

    values = [numbers(side, metric.factor) for side in ("then", "now")]
    points = metric.name in RATES
    change = numbers("difference", 100.0) if points else numbers("ratio", 1.0)
    if change != DASH:
        change = f"{change} points" if points else f"x{change}"
    return [*(row[name] for name in KEYS), metric.title, *values, change, row["verdict"]]


def write(comparison: pd.DataFrame, csv_path: Path | str, md_path: Path | str, tex_path: Path | str) -> None:
    """Write the three forms of a table from `studies.compare`."""
    comparison.to_csv(csv_path, index=False)
    table = for_reading(comparison)
    for form, path in ((markdown, md_path), (latex, tex_path)):
        Path(path).write_text(form(table), encoding="utf-8")
