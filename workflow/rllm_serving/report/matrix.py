"""The optimisations as a matrix: a row a setup or weight format, each metric for the LLM and the RLLM of a pair.

A cell holds the change against the baseline with its interval and verdict: *changed*, *equivalent* or *undecided*.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pandas as pd

from ..analysis.interaction import ROLES
from ..analysis.metric import ENDS
from ..analysis.metrics import REGISTRY
from . import table_forms

CONDITION = ["dataset", "load", "budget"]
SERVER = ["quantization", "setup"]


def matrices(
    table: table_forms.Table, pairs: Mapping[str, Mapping[str, str]], identical: Collection[str]
) -> list[dict[str, Any]]:
    """Return a matrix an engine and pair, as the page shows them.

    Args:
        table: of `tables.optimisations`, or `page_tables.read` of its file.
        pairs: pair -> role -> model.
        identical: "engine/model/quantization/setup" of the servers that are the same as their baseline (A/A).

    Returns:
        Of each its `engine`, `pair`, `metrics` (heads of the columns), and `rows`: `condition`, `label`, `identical`,
        `reason` (why it is not supported; None where it is) and `cells`, for each metric one by role (None without).
    """
    frame = table.frame
    is_baseline = (frame["setup"] == "baseline") & (frame["quantization"] == "bf16")
    candidates = frame[~is_baseline]
    found = []
    for engine in dict.fromkeys(candidates["engine"]):
        for pair, models in pairs.items():
            rows = candidates[(candidates["engine"] == engine) & candidates["model"].isin(models.values())]
            if len(rows):
                listed = [
                    _row(table, part, models, identical)
                    for _, part in rows.groupby([*CONDITION, *SERVER], dropna=False, sort=False)
                ]
                # Servers that are the baseline again come last: they are what the others are to be held against.
                listed.sort(key=lambda row: (row["condition"], row["identical"], row["reason"] is not None))
                heads = [REGISTRY[name].label for name in table.metrics]
                found.append({"engine": engine, "pair": pair, "metrics": heads, "rows": listed})
    return found


def _row(
    table: table_forms.Table, part: pd.DataFrame, models: Mapping[str, str], identical: Collection[str]
) -> dict[str, Any]:
    first = part.iloc[0]
    by_role = {role: part[part["model"] == models.get(role)] for role in ROLES}
    names = part[["engine", "model", *SERVER]].astype(str).agg("/".join, axis=1)
    reasons = part["reason"].dropna() if "reason" in part else part.iloc[:0]
    return {
        "condition": ", ".join(text_of(first[name]) for name in CONDITION if pd.notna(first[name]))
        or "every dataset and load",
        "label": server_label(first["quantization"], first["setup"]),
        "identical": bool(names.isin(list(identical)).any()),
        "reason": str(reasons.iloc[0]) if len(reasons) else None,
        "cells": [
            [_cell(table, name, rows.iloc[0]) if len(rows) else None for rows in by_role.values()]
            for name in table.metrics
        ],
    }


def server_label(quantization: str, setup: str) -> str:
    """Return what a server has that the baseline has not: a weight format, a setup or both."""
    parts = [name for name, plain in ((quantization, "bf16"), (setup, "baseline")) if name != plain]
    return " + ".join(parts) or "baseline"


def text_of(value: object) -> str:
    """Return a key as text; whole numbers without decimals."""
    return f"{value:.0f}" if isinstance(value, float) else str(value)


def _cell(table: table_forms.Table, name: str, row: pd.Series) -> dict[str, Any] | None:
    """Return the change of a metric: `value`, `interval`, `verdict` and its `mark`; None without a value."""
    change = table_forms.change_column(table, name)
    if change is None or pd.isna(row[change]):
        return None
    ratio = change.endswith("_ratio")
    factor = 1.0 if ratio else REGISTRY[name].factor
    ends = [float(row[f"{change}{end}"]) * factor for end in ENDS]
    value, _, interval = table_forms.cell(*ends).partition(" ")
    sign = "x" if ratio else "+" if ends[0] > 0 else ""
    verdict = row.get(f"{change}_verdict")
    verdict = None if pd.isna(verdict) else str(verdict)
    neutral = 1.0 if ratio else 0.0
    marks = {"changed": "▲" if ends[0] > neutral else "▼", "equivalent": "=", "undecided": "?"}
    return {
        "value": sign + value,
        "interval": interval,
        "verdict": verdict,
        "mark": marks.get(verdict or "", ""),
    }
