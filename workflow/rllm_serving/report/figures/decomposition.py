"""Figure: what each change of E2E latency against the baseline is made of."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from . import style
from .facet import Facet, facet, pair_blocks
from .ratios import with_optimisation

# Part of `analysis.decomposition`: label, colour of Okabe and Ito's, hatch for print in grey.
PARTS = {
    "queue_and_prefill": ("Queue and prefill", "#CC79A7", "..."),
    "thinking": ("Thinking tokens", "#D55E00", ""),
    "answer": ("Answer tokens", "#56B4E9", "///"),
    "speed": ("Time per token", "#009E73", "\\\\\\"),
}
CHANGE = "delta_e2e_latency"
BASELINE = "e2e_latency_baseline"
AROUND = 0.55  # inches: title and ticks of a panel


def decomposition(parts: pd.DataFrame, pairs: style.Pairs) -> Figure:
    """Draw rows of `decomposition.decompose` as stacked bars, savings to the left of 0, at the largest load and budget.

    In percent of the baseline's mean; the whole change is a diamond with its interval. Columns are engines, each LLM
    beside RLLM; rows datasets; in a panel a bar a setup or weight format.
    """
    frame = with_optimisation(style.largest_load(style.with_roles(parts, pairs, several_servers=True)))
    lines = list(frame["line"].unique())
    frame["position"] = frame["line"].map(lines.index).astype(float)
    rows = [
        Facet({"dataset": dataset, "pair": pair}, f"{dataset}\n{block}".strip())
        for dataset, (pair, block) in product(style.datasets(frame, BASELINE), pair_blocks(frame))
    ]
    columns = [
        Facet({"engine": engine, "role": role}, f"{style.ENGINES[engine]}, {style.ROLES[role]}")
        for engine, role in product(style.engines(frame), style.ordered(frame["role"], style.ROLES))
    ]

    def panel(ax: Axes, part: pd.DataFrame, _: Facet) -> None:
        ax.axvline(0, color=style.GREY, lw=0.8, zorder=1)
        ax.set_yticks(range(len(lines)), lines)
        ax.set_ylim(len(lines) - 0.5, -0.5)
        ax.grid(axis="y", visible=False)
        ax.use_sticky_edges = False  # bars end before the frame
        style.annotate_empty(ax, part[CHANGE])
        _draw_bars(ax, part[part[CHANGE].notna()])
        absent = set(range(len(lines))).difference(part["position"].astype(int)) if len(part) else set()
        for place in absent:
            where: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "va": "center", "color": "#777777"}
            ax.text(0.02, place, "not measured", fontsize=6.5, **where)

    line = style.line_height(len(rows) * len(lines), 0.6 + AROUND * len(rows))
    height = AROUND + line * len(lines)
    figure = facet(frame, rows, columns, panel, height, "Change of E2E (%)", sharey=True)
    entries: list[Artist] = [
        Patch(facecolor=colour, hatch=hatch, edgecolor="black", lw=0.4, label=label)
        for label, colour, hatch in PARTS.values()
    ]
    entries.append(Line2D([], [], color="black", marker="D", mfc="white", lw=0.8, label="whole, 95 % interval"))
    if not _has_interval(frame[frame[CHANGE].notna()]).all():
        entries.append(Line2D([], [], color="black", label="whole, no interval", **style.TICK))
    entries += style.invalid_handles(frame, style.CROSS)
    style.legend(figure, entries, f"Mean E2E against the baseline, {style.describe_selection(frame)}", "")
    return figure


def _has_interval(part: pd.DataFrame) -> pd.Series:
    return part[[f"{CHANGE}_low", f"{CHANGE}_high"]].notna().all(axis=1)


def _draw_bars(ax: Axes, part: pd.DataFrame) -> None:
    percent = 100 / part[BASELINE]
    y = part["position"]
    ends = {1: np.zeros(len(y)), -1: np.zeros(len(y))}
    for name, (_, colour, hatch) in PARTS.items():
        value = (part[name].fillna(0) * percent).to_numpy(dtype=float)
        for sign, end in ends.items():
            width = np.where(value * sign > 0, value, 0)
            ax.barh(y, width, 0.66, end, color=colour, hatch=hatch, edgecolor="black", lw=0.4, zorder=2)
            ends[sign] = end + width
    change, error = part[CHANGE] * percent, style.error_bars(part, CHANGE) * percent.to_numpy()
    known = _has_interval(part)
    look: dict[str, Any] = {"color": "black", "marker": "D", "mfc": "white", "ls": "", "capsize": 2, "zorder": 4}
    ax.errorbar(change[known], y[known], xerr=error[:, known.to_numpy()], **look)
    ax.plot(change[~known], y[~known], color="black", **style.TICK)
    invalid = part["invalid"].notna()
    ax.plot(change[invalid], y[invalid], **style.CROSS)
