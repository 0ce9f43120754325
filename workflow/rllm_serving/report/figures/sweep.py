"""Accuracy, answered share, throughput and TTFVT against one swept quantity, for `budget` and `batch`."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from . import style

# metric: label, factor to the label's unit
ROWS = {
    "accuracy": ("Accuracy (%)", 100.0),
    "answered_rate": ("Answered (%)", 100.0),
    "output_throughput": ("Throughput\n(tokens/s)", 1.0),
    "ttfvt_mean": ("Mean TTFVT (s)", 1.0),
}


def _series(ax: Axes, rows: pd.DataFrame, x: str, metric: str, role: str, line: Any, shift: float) -> None:
    scale, colour = ROWS[metric][1], style.COLOURS[role]
    rows = rows.sort_values(x)
    at, value = rows[x].to_numpy(dtype=float) * shift, rows[metric].to_numpy(dtype=float) * scale
    ax.errorbar(at, value, style.error(rows, metric, scale), color=colour, ls=line, capsize=1.5, elinewidth=0.8)
    partial = (rows["answered_rate"] < 1).to_numpy() & (metric == "ttfvt_mean")
    for chosen, fill in ((~partial, "full"), (partial, "left")):
        look: dict[str, Any] = {"color": colour, "fillstyle": fill, "markerfacecoloralt": "white"}
        ax.plot(at[chosen], value[chosen], style.MARKERS[role], zorder=3, **look)
    style.mark_invalid(ax, at, value, rows, role)


def draw(frame: pd.DataFrame, x: str, label: str, fixed: str, pdf: Path | str, png: Path | str) -> None:
    """Columns are datasets, rows the metrics (once a pair); x: the swept column; fixed: what is held fixed.

    frame: rows of `points.summary` with pair and role (`style.roles`).
    """
    engines, datasets, pairs = style.engines(frame), style.by_length(frame), sorted(frame["pair"].unique())
    fig, axes = style.figure(len(pairs) * len(ROWS), len(datasets), 1.3, sharex=True, sharey="row")
    rows = [(pair, metric) for pair in pairs for metric in ROWS]
    for (r, (pair, metric)), (d, dataset) in product(enumerate(rows), enumerate(datasets)):
        ax, panel = axes[r, d], style.select(frame, pair=pair, dataset=dataset)
        for role, engine, line, shift in style.series(engines):
            _series(ax, style.select(panel, role=role, engine=engine), x, metric, role, line, shift)
        if panel[metric].isna().all():
            style.annotate_empty(ax)
        style.log2_axis(ax, frame[x])
        if metric == next(iter(ROWS)):
            ax.set_title(f"{dataset}\n{pair}" if len(pairs) > 1 else dataset)
    for ax, (pair, metric) in zip(axes[:, 0], rows, strict=True):
        name = ROWS[metric][0]
        ax.set_ylabel(name)
        if metric == "ttfvt_mean":
            style.log10_axis(ax, style.select(frame, pair=pair)[metric])
        else:
            ax.set_ylim(*((-4, 104) if "%" in name else (0, None)))
    for ax in axes[-1]:
        ax.set_xlabel(label)
    entries = style.legend_handles(engines)
    if (frame.loc[frame["ttfvt_mean"].notna(), "answered_rate"] < 1).any():
        text = "TTFVT of those that answered only"
        half: dict[str, Any] = {"fillstyle": "left", "markerfacecoloralt": "white"}
        entries.append(Line2D([], [], color=style.GREY, marker="D", ls="", label=text, **half))
    style.legend(fig, [*entries, *style.invalid(frame)], fixed)
    fig.align_ylabels(axes[:, 0])
    style.save(fig, pdf, png)
