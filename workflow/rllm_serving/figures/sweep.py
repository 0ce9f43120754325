"""Accuracy, answered share, throughput and TTFVT against one swept quantity; the frame of `budget` and `batch`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from . import style

# metric: label, factor to the label's unit
ROWS = {
    "accuracy": ("Accuracy (%)", 100.0),
    "answered_share": ("Answered (%)", 100.0),
    "tps": ("Throughput\n(tokens/s)", 1.0),
    "ttfvt_mean": ("Mean TTFVT (s)", 1.0),
}


def _series(ax: Axes, rows: pd.DataFrame, x: str, metric: str, role: str, line: object, shift: float) -> None:
    scale = ROWS[metric][1]
    rows = rows.sort_values(x)
    # Series are set a little apart so that their error bars can be told from each other.
    at, value = rows[x].to_numpy(dtype=float) * 2**shift, rows[metric].to_numpy(dtype=float) * scale
    colour = style.COLOURS[role]
    ax.errorbar(
        at, value, style.error(rows, metric, scale), color=colour, ls=line, capsize=1.5, elinewidth=0.8
    )
    partial = (rows["answered_share"] < 1).to_numpy() & (metric == "ttfvt_mean")
    for chosen, face in ((~partial, colour), (partial, "white")):
        ax.plot(at[chosen], value[chosen], style.MARKERS[role], color=colour, markerfacecolor=face, zorder=3)


def draw(frame: pd.DataFrame, x: str, label: str, fixed: str, pdf: Path | str, png: Path | str) -> None:
    """Columns are datasets, rows the metrics (once a pair); x is the swept column; fixed says what is held fixed.

    frame: rows of `points.summary` with pair and role (`style.roles`).
    """
    engines, datasets, pairs = style.engines(frame), style.by_length(frame), sorted(frame["pair"].unique())
    fig, axes = style.figure(len(pairs) * len(ROWS), len(datasets), 1.3, sharex=True, sharey="row")
    series = [(role, engine) for role in style.ROLES for engine in engines]
    for p, pair in enumerate(pairs):
        for r, (metric, (name, _)) in enumerate(ROWS.items()):
            for d, dataset in enumerate(datasets):
                ax, panel = (
                    axes[p * len(ROWS) + r, d],
                    frame[(frame["pair"] == pair) & (frame["dataset"] == dataset)],
                )
                for k, (role, engine) in enumerate(series):
                    rows = panel[(panel["role"] == role) & (panel["engine"] == engine)]
                    shift = 0.09 * (k - (len(series) - 1) / 2)
                    _series(ax, rows, x, metric, role, style.LINES[engines.index(engine)], shift)
                if panel[metric].isna().all():
                    style.nothing(ax)
                style.log2_axis(ax, frame[x])
                if r == 0:
                    ax.set_title(f"{dataset}\n{pair}" if len(pairs) > 1 else dataset)
            first = axes[p * len(ROWS) + r, 0]
            first.set_ylabel(name)
            if metric == "ttfvt_mean":
                style.log10_axis(first, frame.loc[frame["pair"] == pair, metric])
            else:
                first.set_ylim(*((-4, 104) if "%" in name else (0, None)))
    for ax in axes[-1]:
        ax.set_xlabel(label)
    hollow = Line2D(
        [], [], color="#555555", marker="D", mfc="white", ls="", label="TTFVT of those that answered only"
    )
    shown = frame.loc[np.isfinite(frame["ttfvt_mean"]), "answered_share"]
    handles = style.role_handles() + (style.engine_handles(engines) if len(engines) > 1 else [])
    style.legend(fig, handles + ([hollow] if (shown < 1).any() else []), fixed)
    fig.align_ylabels(axes[:, 0])
    style.save(fig, pdf, png)
