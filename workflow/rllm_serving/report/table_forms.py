"""A table and its forms: CSV (raw numbers, interval ends in own columns), Markdown and LaTeX (for reading).

A cell for reading is `value [low, high]`, all three with the digits that give the value three significant ones, in the
unit of the header. Missing is an empty CSV cell and a dash elsewhere, never 0. Behind a comparison stands its verdict:
changed, equivalent or undecided (see `verdicts`). A dagger at the keys marks a row beyond a validity gate, whose reason
the CSV has in `invalid`. Rows with `reason` are unsupported configurations; the reason replaces the metrics.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..analysis.metrics import REGISTRY

DASH, INVALID = "–", "†"  # noqa: RUF001
IN_LATEX = {DASH: "--", INVALID: r"$\dagger$"}
CHANGE = ("_ratio", "_difference")
"""Ends of the names of columns that tell a change."""
KEYS = {
    "experiment": "Experiment",
    "engine": "Engine",
    "control": "Control",
    "against": "Against",
    "model": "Model",
    "pair": "Pair",
    "quantization": "Weights",
    "setup": "Setup",
    "dataset": "Dataset",
    "difficulty": "Difficulty",
    "domain": "Domain",
    "load": "Load",
    "budget": "Budget (tokens)",
    "derived_from": "Cut from (tokens)",
    "draws": "Draws",
    "kernels": "Kernels",
    "metric": "Metric",
    "then": "Then",
    "now": "Now",
    "change": "Now / then",
    "verdict": "Verdict",
}
COUNTED = ("requests", "questions", "starts", "cells")
"""Units of whole numbers."""


@dataclass(frozen=True)
class Table:
    """A table to be written.

    Attributes:
        keys: columns of `frame` to the left, in the order to be printed.
        metrics: columns of `frame` after them, names of the registry.
        frame: a row a row.
        changes: each metric stands beside its change, from the column `{metric}_ratio` or `{metric}_difference`.
    """

    keys: list[str]
    metrics: list[str]
    frame: pd.DataFrame
    changes: bool = False


def cell(value: float, low: float = math.nan, high: float = math.nan) -> str:
    """Return `value [low, high]` with three significant digits of the value, or of its interval where that is 0.

    Args:
        value: what the cell says.
        low: lower end of its interval.
        high: upper end.
    """
    if math.isnan(value):
        return DASH
    size = abs(value) or max((abs(end) for end in (low, high) if not math.isnan(end)), default=0.0)
    digits = 0 if size == 0 else min(6, max(0, 2 - math.floor(math.log10(size))))
    text = f"{value:.{digits}f}"
    return text if math.isnan(low) or math.isnan(high) else f"{text} [{low:.{digits}f}, {high:.{digits}f}]"


def _with_ends(table: Table, name: str) -> list[str]:
    return [name, *(end for end in (f"{name}_low", f"{name}_high", f"{name}_verdict") if end in table.frame)]


def change_column(table: Table, name: str) -> str | None:
    """Return the column with the change of a metric against its baseline, where the table has one."""
    return next((f"{name}{end}" for end in CHANGE if table.changes and f"{name}{end}" in table.frame), None)


def _number_cells(table: Table, name: str, factor: float) -> list[str]:
    columns = [end for end in (name, f"{name}_low", f"{name}_high") if end in table.frame]
    cells = [cell(*row) for row in (table.frame[columns].astype(float) * factor).to_numpy().tolist()]
    if f"{name}_verdict" not in table.frame:
        return cells
    verdicts = table.frame[f"{name}_verdict"]
    return [text if pd.isna(verdict) else f"{text} {verdict}" for text, verdict in zip(cells, verdicts, strict=True)]


def _metric_cells(table: Table, name: str) -> list[str]:
    factor, change = REGISTRY[name].factor, change_column(table, name)
    if REGISTRY[name].unit in COUNTED and not REGISTRY[name].units:
        return [DASH if math.isnan(count) else f"{count:.0f}" for count in table.frame[name].astype(float)]
    if change is None:
        return _number_cells(table, name, factor)
    ratio = change.endswith("_ratio")
    changes = _number_cells(table, change, 1.0 if ratio else factor)
    values = [cell(value) for value in table.frame[name].astype(float) * factor]
    sign = "x" if ratio else ""
    pairs = zip(values, changes, strict=True)
    return [value if text == DASH else f"{value} ({sign}{text})" for value, text in pairs]


def _key_cells(column: pd.Series) -> list[str]:
    whole = column.astype("Int64") if pd.api.types.is_float_dtype(column) else column
    return [DASH if pd.isna(value) else str(value) for value in whole]


def for_reading(table: Table) -> pd.DataFrame:
    """Return the table's cells as text under their headers."""
    cells = {key: _key_cells(table.frame[key]) for key in table.keys}
    cells |= {name: _metric_cells(table, name) for name in table.metrics}
    for column, where, form in (
        ("reason", (table.metrics or table.keys)[0], "not supported: {reason}"),
        ("invalid", table.keys[-1], "{text} " + INVALID),
    ):
        if column in table.frame:
            pairs = zip(cells[where], table.frame[column], strict=True)
            cells[where] = [text if pd.isna(why) else form.format(text=text, reason=why) for text, why in pairs]
    return pd.DataFrame(cells).rename(columns=lambda name: KEYS.get(name) or REGISTRY[name].title)


def csv(table: Table) -> str:
    """Return raw numbers in the units of the registry, with `_low` and `_high` columns; missing is empty."""
    columns = list(table.keys)
    for name in table.metrics:
        columns += [
            *_with_ends(table, name),
            *(_with_ends(table, change) if (change := change_column(table, name)) else []),
        ]
    columns += [name for name in ("reason", "invalid") if name in table.frame]
    return table.frame[columns].to_csv(index=False)


def markdown(table: Table) -> str:
    """Return a pipe table; keys to the left, numbers to the right."""
    escaped = for_reading(table).map(lambda text: text.replace("|", "\\|"))
    align = ["left"] * len(table.keys) + ["right"] * len(table.metrics)
    return escaped.to_markdown(index=False, colalign=align, disable_numparse=True) + "\n"


def latex(table: Table) -> str:
    r"""Return a booktabs tabular for `\input`; no float, so that the paper sets size and caption."""
    styled = for_reading(table).style.hide(axis="index").format(escape="latex").format_index(axis=1, escape="latex")
    text = styled.to_latex(hrules=True, column_format="l" * len(table.keys) + "r" * len(table.metrics))
    for sign, command in IN_LATEX.items():
        text = text.replace(sign, command)
    return text


def write(table: Table, csv_path: Path | str, md_path: Path | str, tex_path: Path | str) -> None:
    """Write the three forms of a table."""
    for form, path in ((csv, csv_path), (markdown, md_path), (latex, tex_path)):
        Path(path).write_text(form(table), encoding="utf-8")
