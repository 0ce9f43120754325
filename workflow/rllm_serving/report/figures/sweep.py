"""Figures: accuracy, answered rate, throughput and TTFVT against the token budget (C5) or the batch size (C6)."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from . import style
from .facet import Facet, dataset_columns, facet, metric_rows

METRICS = ["accuracy", "answered_rate", "output_throughput", "ttfvt_mean"]
HALF: dict[str, Any] = {"fillstyle": "left", "markerfacecoloralt": "white", "ls": ""}
"""Marker of a TTFVT where some requests were cut off before it."""


def budget(summary: pd.DataFrame, pairs: style.Pairs) -> Figure:
    """Draw rows of `points.Tables.summary` against the token budget, at the largest load."""
    frame = style.largest(style.with_roles(summary, pairs), "load_level")
    return _sweep(frame, "budget", "Token budget", f"load {frame['load'].iloc[0]}")


def batch(summary: pd.DataFrame, pairs: style.Pairs) -> Figure:
    """Draw rows of `points.Tables.summary` against the size of batch loads, at the largest token budget."""
    frame = style.largest(style.with_roles(summary[summary["load"].str.startswith("batch")], pairs), "budget")
    return _sweep(frame, "load_level", "Batch size", f"budget {frame['budget'].iloc[0]} tokens")


def _sweep(frame: pd.DataFrame, x: str, xlabel: str, fixed: str) -> Figure:
    partial = frame["ttfvt_mean"].notna() & (frame["answered_rate"] < 1)

    def panel(ax: Axes, part: pd.DataFrame, row: Facet) -> None:
        for role, engine, line, offset in style.series(frame):
            rows = style.select(part, role=role, engine=engine).sort_values(x)
            # What was derived has no times: the line goes on to the next budget that was measured.
            rows = rows[rows["derived_from"].isna() | rows[row.metric].notna()]
            position = rows[x] * 2 ** (0.09 * offset)
            style.intervals(ax, rows, row.metric, position, ls=line)
            if row.metric == "ttfvt_mean":
                half, colour = partial[rows.index], style.COLOURS[role]
                ax.plot(position[half], rows[row.metric][half], style.MARKERS[role], color=colour, zorder=3, **HALF)
        style.annotate_empty(ax, part[row.metric])
        style.log2_axis(ax, frame[x])

    columns = dataset_columns(frame)
    figure = facet(frame, metric_rows(frame, METRICS), columns, panel, 1.3, xlabel, sharex=True, sharey="row")
    entries = style.legend_handles(frame, with_engines=True)
    if partial.any():
        text = "some cut off while thinking: censored"
        entries.append(Line2D([], [], color=style.GREY, marker="D", label=text, **HALF))
    style.legend(
        figure,
        [*entries, *style.derived_handles(frame), *style.invalid_handles(frame)],
        fixed,
        style.bar_text(frame, METRICS),
    )
    return figure
