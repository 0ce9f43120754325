"""Figure: what accuracy costs, in devices, waiting time and energy, of every setup and weight format."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from ...analysis.intervals import Array
from . import style
from .facet import Facet, facet, pair_blocks
from .ratios import with_optimisation

Flags = NDArray[np.bool_]
COSTS = {"request_throughput_per_device": True, "ttfvt_p90": False, "energy_per_answer": False}
"""Metric on the x axis -> whether more of it is better."""
DOMINATED = "#AAAAAA"
LABEL_STEP = 6.5  # points between two names, one above the other
NAMED = {"llm": (-1, "top", "_low"), "rllm": (1, "bottom", "_high")}
"""Role -> on which side of its markers names stand (below or above), their alignment, and the interval's end there."""


def pareto(summary: pd.DataFrame, pairs: style.Pairs) -> Figure:
    """Draw `points.Tables.summary` at the largest load and budget: accuracy against each of COSTS, a column each.

    Throughput is of requests, not tokens: more tokens for the same answer are no gain. Servers whose values no other
    one of the same role and panel beats (at least as good in both, and better in one) are joined and named. One that is
    beaten is grey where another one surely does it (see `dominated`), else in its role's colour without a name. Metrics
    that no server has are left out.
    """
    frame = style.largest_load(style.with_roles(summary, pairs, several_servers=True))
    frame = with_optimisation(frame).fillna({"line": "baseline"}).reset_index(drop=True)
    # Where every request failed no server has any: the panels of the first one say so.
    costs = [name for name in COSTS if frame[name].notna().any()] or list(COSTS)[:1]
    long = pd.concat([_with_cost(frame, name) for name in costs], ignore_index=True)
    limits = {name: _limits(style.select(long, cost=name)) for name in costs}

    def panel(ax: Axes, part: pd.DataFrame, _: Facet) -> None:
        known = part[part[["x", "accuracy"]].notna().all(axis=1)]
        for role, servers in style.by_role(known):
            name = servers["cost"].iloc[0]
            beaten, surely = dominated(servers, COSTS[name])
            for chosen, colour, line in (
                (surely, DOMINATED, ""),
                (beaten & ~surely, style.COLOURS[role], ""),
                (~beaten, style.COLOURS[role], "-"),
            ):
                _draw(ax, servers[chosen], role, colour, line)
            _name(ax, servers[~beaten].sort_values("x"), role, float(np.sqrt(np.prod(limits[name]))))
        style.annotate_empty(ax, part["x"].where(part["accuracy"].notna()))

    rows = [
        Facet({"engine": engine, "dataset": name, "pair": pair}, f"{style.ENGINES[engine]}\n{name}\n{block}".strip())
        for engine, name, (pair, block) in product(style.engines(frame), style.datasets(frame), pair_blocks(frame))
    ]
    columns = [Facet({"cost": name}) for name in costs]
    figure = facet(long, rows, columns, panel, 1.45, sharex="col", sharey=True)
    for ax, name in zip(figure.axes[-len(costs) :], costs, strict=True):
        ax.set_xlabel(f"{style.label(name)}\n{'more' if COSTS[name] else 'less'} is better")
        ax.set(xlim=limits[name], ylim=(-34, 122), yticks=range(0, 101, 25))
        style.log10_axis(ax, pd.Series(limits[name]), "x")
    grey = Line2D([], [], color=DOMINATED, marker="D", ls="", label="surely dominated")
    entries = [*style.legend_handles(frame), grey, *style.invalid_handles(frame)]
    style.legend(
        figure,
        entries,
        f"{style.label('accuracy')} of every server, the best ones named, {style.describe_selection(frame)}",
    )
    return figure


def _with_cost(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Add `cost` (the metric's name) and `x`, `x_low`, `x_high` (its values as people read them)."""
    values = {f"x{end}": frame[name + end] * style.factor(name) for end in ("", "_low", "_high")}
    return frame.assign(cost=name, **values)


def _limits(shown: pd.DataFrame) -> tuple[float, float]:
    """Ends of an axis that holds all values and intervals; any where there are none."""
    ends = shown[["x", "x_low", "x_high"]].to_numpy(dtype=float)
    ends = ends[np.isfinite(ends)]
    return (float(ends.min()) / 1.25, float(ends.max()) * 1.25) if ends.size else (1.0, 10.0)


def dominated(servers: pd.DataFrame, more_is_better: bool) -> tuple[Flags, Flags]:
    """Tell which of n servers another one beats, and which of these surely, both of shape (n,).

    Another one beats a server with values at least as good in both numbers, and better in one. It surely does where
    besides the interval of one number lies wholly on the better side of the server's: without intervals nothing is
    sure.

    Args:
        servers: n rows with x and accuracy, and the ends of their intervals (NaN where there is none).
        more_is_better: whether a larger x is better.
    """
    gains = [_gain(servers, "x", 1 if more_is_better else -1), _gain(servers, "accuracy", 1)]
    other, own = (slice(None), None), (None, slice(None))
    as_good = np.logical_and.reduce([value[other] >= value[own] for value, _, _ in gains])
    better = np.logical_or.reduce([value[other] > value[own] for value, _, _ in gains])
    apart = np.logical_or.reduce([low[other] > high[own] for _, low, high in gains])
    return np.any(as_good & better, axis=0), np.any(as_good & apart, axis=0)


def _gain(servers: pd.DataFrame, name: str, sign: int) -> tuple[Array, Array, Array]:
    """Values with the worse and the better end of their intervals, so that more is better."""
    value, low, high = (sign * servers[name + end].to_numpy(dtype=float) for end in ("", "_low", "_high"))
    return (value, low, high) if sign > 0 else (value, high, low)


def _draw(ax: Axes, rows: pd.DataFrame, role: str, colour: str, line: str = "") -> None:
    """Draw servers with both intervals; with a line, join them."""
    rows = rows.sort_values(["x", "accuracy"])
    y = rows["accuracy"] * style.factor("accuracy")
    errors: dict[str, Any] = {"xerr": style.error_bars(rows, "x"), "yerr": style.error_bars(rows, "accuracy") * 100}
    ax.errorbar(rows["x"], y, **errors, color=colour, ls=line, lw=0.8, elinewidth=0.6, zorder=3 if line else 2)
    invalid = rows["invalid"].notna()
    for chosen, face in ((~invalid, colour), (invalid, "white")):
        look: dict[str, Any] = {"color": colour, "mfc": face, "ms": 5, "zorder": 4 if line else 2.5}
        ax.plot(rows["x"][chosen], y[chosen], style.MARKERS[role], **look)


def _name(ax: Axes, rows: pd.DataFrame, role: str, middle: float) -> None:
    """Write the names of servers from left to right, each further from its marker; towards the middle of the panel."""
    side, align, end = NAMED[role]
    heights = rows[f"accuracy{end}"].fillna(rows["accuracy"]) * style.factor("accuracy")
    for number, (x, height, name) in enumerate(zip(rows["x"], heights, rows["line"], strict=True)):
        offset = (0, side * (3 + LABEL_STEP * number))
        look: dict[str, Any] = {
            "fontsize": 6,
            "color": style.COLOURS[role],
            "va": align,
            "ha": "left" if x < middle else "right",
        }
        ax.annotate(name, (x, height), xytext=offset, textcoords="offset points", zorder=5, **look)
