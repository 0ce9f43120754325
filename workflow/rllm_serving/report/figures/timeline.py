"""Figure: use of the KV cache and running requests over time, LLM beside RLLM (C1)."""

from __future__ import annotations

import textwrap

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from . import style
from .facet import Facet, facet

GAUGES = ["kv_cache_usage", "running"]


def timeline(server: pd.DataFrame, summary: pd.DataFrame, pairs: style.Pairs) -> Figure:
    """Draw samples of server.parquet: the first repeat of the hardest dataset at the largest load and budget."""
    points = style.with_roles(summary, pairs)
    largest, dataset = style.largest_load(points), style.datasets(points)[-1]
    keys = {"dataset": dataset, "load": largest["load"].iloc[0], "budget": largest["budget"].iloc[0]}
    samples = style.select(style.with_roles(server, pairs), **keys).sort_values("time")
    samples = samples[samples["repeat"] == samples["repeat"].min()].astype(dict.fromkeys(GAUGES, float))
    samples[GAUGES] *= [style.factor(gauge) for gauge in GAUGES]
    samples = samples.melt(["pair", "engine", "role", "time"], GAUGES, "gauge")

    def panel(ax: Axes, part: pd.DataFrame, row: Facet) -> None:
        style.annotate_empty(ax, part["value"])
        for role, rows in style.by_role(part.dropna()):
            ax.step(rows["time"], rows["value"], color=style.COLOURS[role], where="post", lw=1)
            ax.fill_between(rows["time"], rows["value"], color=style.COLOURS[role], step="post", lw=0, alpha=0.2)
        # One scale for a gauge in the whole figure: models and engines are to be compared.
        top = style.select(samples, gauge=row.where["gauge"])["value"].max()
        ax.set_ylim(0, top * 1.05 if top > 0 else 1)
        ax.yaxis.set_major_locator(
            MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=row.where["gauge"] == "running")
        )

    rows = [
        Facet(
            {"pair": pair, "engine": engine, "gauge": gauge},
            textwrap.fill(style.label(gauge), 12),
            f"{pair}, {style.ENGINES[engine]}",
        )
        for pair in style.ordered(points["pair"])
        for engine in style.engines(points)
        for gauge in GAUGES
    ]
    columns = [Facet({"role": role}, style.ROLES[role]) for role in style.ordered(points["role"], style.ROLES)]
    figure = facet(samples, rows, columns, panel, 1.2, "Time since the point's start (s)", sharex=True)
    figure.suptitle(f"{dataset}, {style.describe_selection(largest)}, one repeat", fontsize=8.5)
    return figure
