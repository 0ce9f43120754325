"""A forest plot: a line a comparison, a column a metric, and a marker that says the verdict.

Filled: changed; hollow: equivalent; grey: undecided. What has no interval was not judged: it is a thin tick.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, inf, log
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from ...analysis.comparison import RATES
from ...analysis.metric import ENDS
from ...analysis.metrics import REGISTRY
from ...analysis.verdicts import CHANGED, EQUIVALENT, UNDECIDED
from . import style

AROUND = 1.2  # inches: legend, titles and ticks
UNSURE = "#999999"
LEAST_RATIO, LEAST_POINTS = 2.2, 10.0
"""What every axis shows at least to either side of "no change"."""


def forest(
    frame: pd.DataFrame, metrics: Sequence[str], groups: Sequence[str], lines: Sequence[str], fixed: str, note: str = ""
) -> Figure:
    """Draw ratios; of RATES differences in points.

    Args:
        frame: comparisons with verdicts, a row each, with a role, `group` and `line`.
        metrics: names of the columns, from left to right.
        groups: values of `group`, from top to bottom; those without rows are left out.
        lines: values of `line`, from top to bottom of their group; a group has those that it has rows of.
        fixed: what all panels have in common.
        note: stands below the panels.
    """
    frame = _with_shown(frame[frame["metric"].isin(metrics)])
    texts, places = _places(frame, groups, lines)
    position = np.array([places[key] for key in zip(frame["group"], frame["line"], strict=True)], dtype=float)
    frame = frame.assign(position=position + 1.5 * frame["role"].map(style.SHIFTS).to_numpy(dtype=float))
    around = AROUND + 0.14 * (note.count("\n") + 1 if note else 0)
    figure = Figure(figsize=(style.WIDTH, around + len(texts) * style.line_height(len(texts), around)))
    axes = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    headings = [place for place, text in enumerate(texts) if (text, text) in places]
    for ax, metric in zip(axes, metrics, strict=True):
        _panel(ax, style.select(frame, metric=metric), metric)
        for place in headings:
            ax.axhline(place - 0.5, color="#DDDDDD", lw=0.5, zorder=0)
    axes[0].set_yticks(range(len(texts)), texts)
    axes[0].set_ylim(len(texts) - 0.5, -0.5)
    for place in headings:
        axes[0].get_yticklabels()[place].set_fontweight("bold")
    style.legend(figure, _handles(frame), fixed)
    if note:
        figure.supxlabel(note, x=0.01, ha="left", fontsize=7)
    return figure


def _with_shown(frame: pd.DataFrame) -> pd.DataFrame:
    """Add `shown` and its ends: the ratio, of RATES the difference in points; without ratios that have no logarithm."""
    rate = frame["metric"].isin(RATES)
    shown = {
        f"shown{end}": frame[f"ratio{end}"].astype(float).mask(rate, 100 * frame[f"difference{end}"].astype(float))
        for end in ENDS
    }
    frame = frame.assign(**shown)
    return frame[frame["shown"].notna() & (rate | (frame["shown"] > 0))]


def _places(
    frame: pd.DataFrame, groups: Sequence[str], lines: Sequence[str]
) -> tuple[list[str], dict[tuple[str, str], int]]:
    """Return the texts from top to bottom, and the place of each (group, line); (group, group) is a heading."""
    present = set(zip(frame["group"], frame["line"], strict=True))
    texts: list[str] = []
    places: dict[tuple[str, str], int] = {}
    for group in groups:
        own = [line for line in lines if (group, line) in present]
        for line in [group, *own] if own else []:
            places[group, line] = len(texts)
            texts.append(line)
    return texts, places


def _panel(ax: Axes, part: pd.DataFrame, metric: str) -> None:
    points = metric in RATES
    ax.axvline(0 if points else 1, color=style.GREY, lw=0.8, zorder=1)
    for margin in part["margin"].dropna().unique():
        ends = (-100 * margin, 100 * margin) if points else (np.exp(-margin), np.exp(margin))
        ax.axvspan(*ends, color=style.GREY, alpha=0.15, lw=0, zorder=0)
    for role, rows in style.by_role(part):
        _draw(ax, role, rows)
    invalid = part[part["invalid"].notna()]
    ax.plot(invalid["shown"], invalid["position"], **style.CROSS)
    style.annotate_empty(ax, part["shown"])
    ax.set_title(f"{REGISTRY[metric].label}\n(points)" if points else REGISTRY[metric].label)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="y", visible=False)
    values = part[[f"shown{end}" for end in ENDS]].to_numpy(dtype=float)
    _symmetric_axis(ax, values[np.isfinite(values)], points)


def _draw(ax: Axes, role: str, rows: pd.DataFrame) -> None:
    colour, marker = style.COLOURS[role], style.MARKERS[role]
    known, verdict = _has_interval(rows), rows["verdict"]
    judged: dict[str, Any] = {CHANGED: (colour, colour), EQUIVALENT: (colour, "white")}
    looks = [(known & (verdict == name), *look) for name, look in judged.items()]
    # Those beyond a gate have an interval and no verdict: they are no more certain than the undecided.
    for chosen, edge, face in [*looks, (known & ~verdict.isin(list(judged)), UNSURE, "white")]:
        some = rows[chosen]
        if len(some):
            bars = style.error_bars(some, "shown")
            look: dict[str, Any] = {"color": edge, "mfc": face, "ls": "", "capsize": 1.5, "elinewidth": 0.8}
            ax.errorbar(some["shown"], some["position"], xerr=bars, marker=marker, zorder=3, **look)
    ax.plot(rows["shown"][~known], rows["position"][~known], color=colour, **style.TICK)


def _has_interval(rows: pd.DataFrame) -> pd.Series:
    return rows[["shown_low", "shown_high"]].notna().all(axis=1)


def _symmetric_axis(ax: Axes, values: NDArray[np.float64], points: bool) -> None:
    """Make "no change" the middle of the x axis, which shows all values and both ends of all intervals.

    Args:
        ax: panel.
        values: all of these, shape (n,), finite.
        points: whether they are differences in points, and not ratios.
    """
    if points:
        reach = 1.08 * max(LEAST_POINTS, float(np.abs(values).max(initial=0)))
        ax.set_xlim(-reach, reach)
        ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
        return
    reach = max(LEAST_RATIO, float(np.exp(1.08 * np.abs(np.log(values[values > 0])).max(initial=0))))
    base = next(base for base, end in ((2.0, 5), (5.0, 30), (10.0, inf)) if reach < end)
    highest = floor(log(reach) / log(base))
    ax.set_xscale("log")
    ax.set_xlim(1 / reach, reach)
    # Labels of more than three would touch.
    ax.xaxis.set_major_locator(FixedLocator([base**-highest, 1, base**highest]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_locator(FixedLocator([base**power for power in range(-highest, highest + 1)]))
    ax.xaxis.set_minor_formatter(NullFormatter())


def _handles(frame: pd.DataFrame) -> list[Artist]:
    """Return legend entries for what the figure has."""
    known = _has_interval(frame)
    verdicts = set(frame["verdict"][known])
    marks = [
        (CHANGED in verdicts, CHANGED, style.HOLLOW | {"mfc": style.GREY}),
        (EQUIVALENT in verdicts, EQUIVALENT, style.HOLLOW),
        (UNDECIDED in verdicts, UNDECIDED, style.HOLLOW | {"color": UNSURE}),
        (not known.all(), "no interval, not judged", {"color": style.GREY} | style.TICK),
    ]
    entries: list[Artist] = [*style.legend_handles(frame)]
    entries += [Line2D([], [], label=label, **mark) for shown, label, mark in marks if shown]
    if frame["margin"].notna().any():
        entries.append(Patch(color=style.GREY, alpha=0.15, lw=0, label="changes that do not matter"))
    return entries + style.invalid_handles(frame, style.CROSS)
