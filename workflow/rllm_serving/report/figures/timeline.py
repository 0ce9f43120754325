"""Figure: use of the KV cache and running requests over time, LLM beside RLLM (C1)."""

from __future__ import annotations

import textwrap

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ...analysis.server_metrics import MIN_SAMPLES
from . import style
from .facet import Facet, facet

GAUGES = ["kv_cache_usage", "running"]


def timeline(server: pd.DataFrame, points: pd.DataFrame, pairs: style.Pairs) -> Figure:
    """Draw the samples of one whole point a server, from its start to the sample after its end; dots are samples.

    Args:
        server: server.parquet of all runs.
        points: `points.Tables.points`.
        pairs: {pair: {role: model}}.
    """
    largest = style.largest_load(style.with_roles(points, pairs))
    dataset, repeat = choose_point(largest)
    keys = {"dataset": dataset, "load": largest["load"].iloc[0], "budget": largest["budget"].iloc[0], "repeat": repeat}
    samples = style.select(style.with_roles(server, pairs), **keys).sort_values("time")
    # What was sampled before the start tells of what was before the point.
    samples = samples[samples["time"] >= 0].astype(dict.fromkeys(GAUGES, float))
    samples[GAUGES] *= [style.factor(gauge) for gauge in GAUGES]
    samples = samples.melt(["pair", "engine", "role", "time", "in_window"], GAUGES, "gauge")

    def panel(ax: Axes, part: pd.DataFrame, row: Facet) -> None:
        style.annotate_empty(ax, part["value"])
        for role, rows in style.by_role(part.dropna()):
            ax.step(rows["time"], rows["value"], color=style.COLOURS[role], where="post", lw=1, marker=".", ms=2.5)
            ax.fill_between(rows["time"], rows["value"], color=style.COLOURS[role], step="post", lw=0, alpha=0.2)
            count = int(rows["in_window"].sum())
            few = "only " * (count < MIN_SAMPLES)
            ax.set_title(f"{few}{count} samples", loc="right", fontsize=7, color="#777777", pad=2)
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
        for pair in style.ordered(largest["pair"])
        for engine in style.engines(largest)
        for gauge in GAUGES
    ]
    columns = [Facet({"role": role}, style.ROLES[role]) for role in style.ordered(largest["role"], style.ROLES)]
    # An LLM is done long before an RLLM: each has a time axis of its own.
    figure = facet(samples, rows, columns, panel, 1.2, "Time since the point's start (s)", sharex="col")
    for ax in figure.axes:
        ax.set_xlim(left=0)
    selected = f"{dataset}, {style.describe_selection(largest)}, repeat {repeat}"
    figure.suptitle(f"{selected}; the time axes of the columns differ", fontsize=8.5)
    return figure


def choose_point(points: pd.DataFrame) -> tuple[str, int]:
    """Return dataset and repeat of the points to be shown: the hardest dataset's that all servers measured soundly.

    That is, no point is beyond a validity gate, and each has MIN_SAMPLES under load. Of its repeats the one with the
    most samples; where no dataset has such, the hardest one's.

    Args:
        points: rows of `points.Tables.points` of one load and budget, with roles.
    """
    hardness = style.datasets(points)
    ranks = []
    for _, part in points.groupby(["dataset", "repeat"]):
        dataset, repeat = str(part["dataset"].iloc[0]), int(part["repeat"].iloc[0])
        samples = float(part["gauge_samples"].fillna(0).min())
        sound = bool(part["invalid"].isna().all()) and samples >= MIN_SAMPLES
        ranks.append((len(part), sound, hardness.index(dataset), samples, -repeat, dataset))
    *_, before, dataset = max(ranks)
    return dataset, -before
