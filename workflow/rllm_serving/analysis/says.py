"""Metrics of what a model says: accuracy, answers, lengths. Questions are drawn, so they are the clusters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from .intervals import Codes, Interval, mean, quantiles, share
from .metrics import FAILURE_MODES, TOKEN_SHARES, TOKENS


def is_graded(group: pd.DataFrame) -> bool:
    """Whether rows of `ServerData.frame` have an accuracy: some ended well, and every answer is graded and free."""
    graded = group["correct"].notna().all() and group["forced_output_tokens"].isna().all()
    return bool(graded and group["completed"].any())


def rates(group: pd.DataFrame) -> dict[str, pd.Series]:
    """Of each request whether it counts for a rate of METRICS: failed_rate, answered_rate, truncated_rate, accuracy."""
    found = {"failed_rate": ~group["completed"], "answered_rate": group["answered"]}
    found["truncated_rate"] = group["completed"] & (group["finish_reason"] == "length")
    return found | ({"accuracy": group["correct"]} if is_graded(group) else {})


def metrics(group: pd.DataFrame, question: Codes) -> dict[str, Any]:
    """Return counts, rates and token numbers of METRICS with their intervals.

    Args:
        group: rows of `ServerData.frame`.
        question: number of each row's question.
    """
    ok = group["completed"]
    row: dict[str, Any] = {"num_requests": len(group), "completed": ok.sum(), "failed": (~ok).sum()}
    row["num_questions"] = len(np.unique(question))
    for name, hits in rates(group).items():
        row |= interval_columns(name, share(hits.to_numpy(dtype=float), question))
    if "accuracy" in row:
        modes = {f"failure_mode_{name.replace('-', '_')}": name for name in FAILURE_MODES}
        row |= {column: (group["failure_mode"] == name).mean() for column, name in modes.items()}
    for name in TOKENS:
        values = group[name].where(ok).to_numpy(dtype=float)
        row |= interval_columns(f"{name}_mean", mean(values, question))
        found = quantiles(values, question, list(TOKEN_SHARES.values()))
        for statistic, estimate in zip(TOKEN_SHARES, found, strict=True):
            row |= interval_columns(f"{name}_{statistic}", estimate)
    return row


def interval_columns(name: str, estimate: Interval) -> dict[str, float]:
    """Return `name`, `name_low` and `name_high` of an interval."""
    return dict(zip((name, f"{name}_low", f"{name}_high"), estimate, strict=True))
