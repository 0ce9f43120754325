"""Figure: accuracy by domain, LLM beside RLLM (C4)."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import style
from .facet import Facet, engine_columns, facet, pair_blocks


def domain(breakdown: pd.DataFrame, pairs: style.Pairs) -> Figure:
    """Draw rows of `points.Tables.domain` at the largest load and budget; columns are engines."""
    frame = style.largest_load(style.with_roles(breakdown, pairs))
    frame, groups = style.with_positions(frame, "domain")

    def panel(ax: Axes, part: pd.DataFrame, row: Facet) -> None:
        style.intervals(ax, part, "accuracy", part["position"], horizontal=True)
        style.annotate_empty(ax, part["accuracy"])
        ax.set_yticks(range(len(groups)), [f"{name} ({dataset})" for name, dataset in groups])
        ax.set(ylim=(len(groups) - 0.5, -0.5), xlim=(-3, 103))

    rows = [Facet({"pair": pair}, block=block) for pair, block in pair_blocks(frame)]
    height, xlabel = 0.26 * len(groups) + 0.5, style.label("accuracy")
    figure = facet(frame, rows, engine_columns(frame), panel, height, xlabel, sharex=True, sharey=True)
    entries = [*style.legend_handles(frame), *style.invalid_handles(frame)]
    style.legend(figure, entries, style.describe_selection(frame), style.bar_text(frame, ["accuracy"]))
    return figure
