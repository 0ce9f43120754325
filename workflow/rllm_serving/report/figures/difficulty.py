"""Figure: latency and output tokens against the questions' difficulty, LLM beside RLLM (C3)."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from . import style
from .facet import Facet, engine_columns, facet, metric_rows

METRICS = ["e2e_latency_mean", "output_tokens_mean"]
ORDER = ["easy", "medium", "hard"]
DASH: dict[str, Any] = {"marker": "_", "ms": 8, "mew": 1.5, "ls": ""}


def difficulty(breakdown: pd.DataFrame, pairs: style.Pairs) -> Figure:
    """Draw rows of `points.Tables.difficulty`, p99 as a dash, at the largest load and budget; columns are engines."""
    frame = style.largest_load(style.with_roles(breakdown, pairs))
    frame, groups = style.with_positions(frame, "difficulty", ORDER)

    def panel(ax: Axes, part: pd.DataFrame, row: Facet) -> None:
        style.intervals(ax, part, row.metric, part["position"])
        for role, rows in style.by_role(part):
            p99 = rows[row.metric.replace("_mean", "_p99")]
            ax.plot(rows["position"], p99, color=style.COLOURS[role], **DASH)
        style.annotate_empty(ax, part[row.metric])
        ax.set_xticks(range(len(groups)), map("\n".join, groups))
        ax.set_xlim(-0.5, len(groups) - 0.5)
        ax.grid(axis="x", visible=False)

    rows, columns = metric_rows(frame, METRICS), engine_columns(frame)
    figure = facet(frame, rows, columns, panel, 1.7, "Difficulty and dataset", sharex=True, sharey="row")
    p99 = Line2D([], [], color=style.GREY, label="p99", **DASH)
    entries = [*style.legend_handles(frame), p99, *style.invalid_handles(frame)]
    style.legend(figure, entries, style.describe_selection(frame), style.bar_text(frame, METRICS))
    return figure
