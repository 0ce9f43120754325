"""A grid of panels: rows and columns say what part of a frame a panel shows."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import style

LOGARITHMIC = ("ttfvt", "e2e_latency", "output_tokens")
"""How the names of metrics begin that span orders of magnitude."""


@dataclass(frozen=True)
class Facet:
    """A row or a column of the grid.

    Attributes:
        where: {column: value} of the part of the frame that it shows.
        label: at the left of a row or above a column; by default that of the row's metric.
        block: name of the block of rows that a row belongs to; it stands above the block.
        metric: metric on the row's y axis.
    """

    where: dict[str, object]
    label: str = ""
    block: str = ""
    metric: str = ""


def dataset_columns(frame: pd.DataFrame) -> list[Facet]:
    """Return a column a dataset."""
    return [Facet({"dataset": dataset}, dataset) for dataset in style.datasets(frame)]


def engine_columns(frame: pd.DataFrame) -> list[Facet]:
    """Return a column an engine."""
    return [Facet({"engine": engine}, style.ENGINES[engine]) for engine in style.engines(frame)]


def pair_blocks(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """Return each pair and the name of its block of rows, empty for the only one."""
    pairs = style.ordered(frame["pair"])
    return [(pair, pair if len(pairs) > 1 else "") for pair in pairs]


def metric_rows(frame: pd.DataFrame, metrics: Iterable[str]) -> list[Facet]:
    """Return a row a pair and metric."""
    rows = product(pair_blocks(frame), metrics)
    return [Facet({"pair": pair}, block=block, metric=metric) for (pair, block), metric in rows]


def facet(
    frame: pd.DataFrame,
    rows: Sequence[Facet],
    columns: Sequence[Facet],
    panel: Callable[[Axes, pd.DataFrame, Facet], None],
    height: float,
    xlabel: str = "",
    **options: Any,
) -> Figure:
    """Draw the grid.

    Args:
        frame: all that is shown.
        rows: from top to bottom.
        columns: from left to right.
        panel: draws into axes a part of the frame, given its row too.
        height: of a row, inches.
        xlabel: below every column.
        options: of `Figure.subplots`.
    """
    figure = Figure(figsize=(style.WIDTH, height * len(rows) + 0.6))
    axes = figure.subplots(len(rows), len(columns), squeeze=False, **options)
    separator = ", " if len(columns) <= 2 else "\n"
    block = None
    for row, row_axes in zip(rows, axes, strict=True):
        row_frame = style.select(frame, **row.where)
        for column, ax in zip(columns, row_axes, strict=True):
            panel(ax, style.select(row_frame, **column.where), row)
            if row.block != block:
                ax.set_title(separator.join(filter(None, [column.label, row.block])))
        block = row.block
        if row.metric:
            _set_metric_axis(row_axes[0], row.metric, row_frame[row.metric])
        if row.label:
            row_axes[0].set_ylabel(row.label)
    for ax in axes[-1]:
        ax.set_xlabel(xlabel)
    figure.align_ylabels(axes[:, 0])
    return figure


def _set_metric_axis(ax: Axes, metric: str, values: pd.Series) -> None:
    label = style.label(metric)
    ax.set_ylabel(textwrap.fill(label, 20))
    if metric.startswith(LOGARITHMIC):
        style.log10_axis(ax, values)
    else:
        ax.set_ylim(*((-4, 104) if "%" in label else (0, None)))
