"""Figure: latencies and SLO attainment of open-loop requests, from even to bursty, and under real traffic (C11)."""

from __future__ import annotations

import re

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import style
from .facet import Facet, dataset_columns, facet, metric_rows

METRICS = ["slo_attainment", "ttfvt_p99", "e2e_latency_mean", "tpot_mean"]
MAX_LEVEL_LABELS = 6
"""Labels below the panels of a figure that fit side by side."""


def _order(load: str) -> tuple[bool, float, str]:
    """Sort Gamma arrivals from even to bursty, then traces by name."""
    burstiness = re.search(r"-gamma([\d.e-]+)$", load)
    return burstiness is None, -float(burstiness[1]) if burstiness else 0.0, load


def _label(load: str) -> str:
    """Write `open-0.7x-gamma0.5` as two lines: the pattern, and how much of it."""
    _, pace, pattern = load.split("-", 2)
    amount = f"{float(pace[:-1]):.0%} of capacity" if pace.endswith("x") else f"{pace.removesuffix('rps')} requests/s"
    name = "Poisson" if pattern == "gamma1" else pattern.replace("gamma", "Gamma ")
    return f"{name}\n{amount}"


def traffic(summary: pd.DataFrame, pairs: style.Pairs) -> Figure:
    """Draw `points.Tables.summary` for each open-loop load, at the largest token budget; columns are datasets."""
    frame = style.with_roles(summary[summary["load"].str.startswith(("open", "trace"))], pairs)
    frame = style.largest(frame, "budget")
    loads = sorted(set(frame["load"]), key=_order)
    frame["position"] = frame["load"].map(loads.index).astype(float)
    columns = dataset_columns(frame)
    rotation = 0 if len(loads) * len(columns) <= MAX_LEVEL_LABELS else 90

    def panel(ax: Axes, part: pd.DataFrame, row: Facet) -> None:
        for role, engine, line, offset in style.series(frame):
            rows = style.select(part, role=role, engine=engine).sort_values("position")
            style.intervals(ax, rows, row.metric, rows["position"] + 0.08 * offset, ls=line)
        style.annotate_empty(ax, part[row.metric])
        ax.set_xticks(range(len(loads)), map(_label, loads), rotation=rotation)
        ax.set_xlim(-0.5, len(loads) - 0.5)

    figure = facet(frame, metric_rows(frame, METRICS), columns, panel, 1.3, sharex=True, sharey="row")
    entries = [*style.legend_handles(frame, with_engines=True), *style.invalid_handles(frame)]
    style.legend(figure, entries, f"budget {frame['budget'].iloc[0]} tokens", style.bar_text(frame, METRICS))
    return figure
