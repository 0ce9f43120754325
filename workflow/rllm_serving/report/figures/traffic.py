"""Figure: what users see of a stream of requests, the burstier it is, and under real traffic."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from . import style

# metric: label, factor to the label's unit
ROWS = {
    "slo_attainment": ("Within SLO (%)", 100.0),
    "ttfvt_p99": ("TTFVT p99 (s)", 1.0),
    "e2e_latency_mean": ("Mean E2E (s)", 1.0),
    "tpot_mean": ("Mean TPOT (ms)", 1000.0),
}
LOGARITHMIC = ("ttfvt_p99", "e2e_latency_mean")


def _place(load: str) -> tuple[bool, float, str]:
    """Order of the loads: Gamma from even to bursty, then traces by name."""
    shape = re.search(r"-gamma([\d.e-]+)$", load)
    return shape is None, -float(shape[1]) if shape else 0.0, load


def _label(load: str) -> str:
    """`open-0.7x-gamma0.5` as two lines: what it is, and how much of it."""
    _, pace, what = load.split("-", 2)
    amount = f"{float(pace[:-1]):.0%} of capacity" if pace.endswith("x") else f"{pace.removesuffix('rps')} requests/s"
    name = "Poisson" if what == "gamma1" else what.replace("gamma", "Gamma ")
    return f"{name}\n{amount}"


@style.styled
def draw(summary: pd.DataFrame, pairs: style.Pairs, pdf: Path | str, png: Path | str) -> None:
    """Columns are datasets, rows metrics (once a pair), along x the loads; means and quantiles with intervals.

    summary: rows of `points.summary` of one experiment; its loads with a clock of their own at the largest budget.
    """
    frame = style.roles(summary[summary["load"].str.startswith(("open", "trace"))], pairs)
    frame = frame[frame["budget"] == frame["budget"].max()]
    loads = sorted(set(frame["load"]), key=_place)
    engines, datasets, names = style.engines(frame), style.by_length(frame), sorted(frame["pair"].unique())
    rows = [(pair, metric) for pair in names for metric in ROWS]
    fig, axes = style.figure(len(rows), len(datasets), 1.3, sharex=True, sharey="row")
    for (r, (pair, metric)), (d, dataset) in product(enumerate(rows), enumerate(datasets)):
        ax, panel, (label, scale) = axes[r, d], style.select(frame, pair=pair, dataset=dataset), ROWS[metric]
        for number, (role, engine, line, _) in enumerate(style.series(engines)):
            mine = style.select(panel, role=role, engine=engine)
            # A role that was not measured has no rows, whose places would be text.
            mine = mine.assign(place=mine["load"].map(loads.index).astype(float)).sort_values("place")
            at, value = mine["place"] + 0.08 * (number - len(engines) + 0.5), mine[metric] * scale
            look: dict[str, Any] = {"color": style.COLOURS[role], "marker": style.MARKERS[role], "capsize": 1.5}
            ax.errorbar(at, value, style.error(mine, metric, scale), ls=line, elinewidth=0.8, **look)
            style.mark_invalid(ax, at, value, mine, role)
        if panel[metric].isna().all():
            style.annotate_empty(ax)
        elif metric in LOGARITHMIC:
            style.log10_axis(ax, style.select(frame, pair=pair)[metric])
        if r == 0:
            ax.set_title(dataset)
        if d == 0:
            ax.set_ylabel(label if len(names) == 1 else f"{label}\n{pair}")
            if metric not in LOGARITHMIC:
                ax.set_ylim(*((-4, 104) if "%" in label else (0, None)))
        ax.set_xticks(range(len(loads)), [_label(load) for load in loads])
        ax.set_xlim(-0.5, len(loads) - 0.5)
    style.legend(
        fig, [*style.legend_handles(engines), *style.invalid(frame)], f"budget {frame['budget'].iloc[0]} tokens"
    )
    fig.align_ylabels(axes[:, 0])
    style.save(fig, pdf, png)
