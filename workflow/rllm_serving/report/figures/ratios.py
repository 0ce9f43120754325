"""Ratios with paired intervals, a line a thing compared, for `engines` and `optimisations`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from . import style

METRICS = {
    "accuracy": "Accuracy",
    "output_throughput": "Throughput",
    "ttfvt": "TTFVT",
    "tpot": "TPOT",
    "e2e_latency": "E2E",
    "kv_cache_usage": "KV use",
}


def draw(
    frame: pd.DataFrame, lines: list[Any], rows: dict[Any, str], fixed: str, pdf: Path | str, png: Path | str
) -> None:
    """Columns are metrics, rows those of `rows` (value of column `row` -> label), in a panel a line a thing.

    frame: rows of `comparison.compare` with role (`style.roles`), `row`, and `line`, one of `lines`. A ratio of 1 is
    the grey line; a hollow marker has an interval that holds 1, a crossed one is beyond a validity gate.
    """
    fig, axes = style.figure(len(rows), len(METRICS), 0.5 + 0.2 * len(lines), sharey=True)
    for r, (row, label) in enumerate(rows.items()):
        for c, (metric, title) in enumerate(METRICS.items()):
            _panel(axes[r, c], style.select(frame, row=row, metric=metric), lines)
            if r == 0:
                axes[r, c].set_title(title)
        axes[r, 0].set_ylabel(label)
        axes[r, 0].set_yticks(range(len(lines)), [str(line) for line in lines])
        axes[r, 0].set_ylim(len(lines) - 0.5, -0.5)
    hollow = Line2D([], [], color=style.GREY, marker="D", mfc="white", ls="", label="interval holds 1")
    style.legend(fig, [*style.legend_handles([]), hollow, *style.invalid(frame, **style.CROSS)], fixed)
    style.save(fig, pdf, png)


def _panel(ax: Axes, panel: pd.DataFrame, lines: list[Any]) -> None:
    ax.axvline(1, color=style.GREY, lw=0.8, zorder=1)
    for role, shift in (("llm", -0.15), ("rllm", 0.15)):
        mine = style.select(panel, role=role)
        mine = mine[mine["ratio"] > 0]
        y = mine["line"].map(lines.index).to_numpy(dtype=float) + shift
        colour, marker = style.COLOURS[role], style.MARKERS[role]
        ax.errorbar(mine["ratio"], y, xerr=style.error(mine, "ratio"), color=colour, ls="", capsize=1.5, elinewidth=0.8)
        holds = ((mine["ratio_low"] <= 1) & (mine["ratio_high"] >= 1)).to_numpy()
        for chosen, face in ((~holds, colour), (holds, "white")):
            ax.plot(mine["ratio"].to_numpy()[chosen], y[chosen], marker, color=colour, mfc=face, zorder=3)
        beyond = mine["invalid"].notna().to_numpy()
        ax.plot(mine["ratio"].to_numpy()[beyond], y[beyond], **style.CROSS)
    ax.grid(axis="y", visible=False)
    known = panel[["ratio", "ratio_low", "ratio_high"]].to_numpy(dtype=float).ravel()
    known = known[known > 0]
    if not len(known):
        style.annotate_empty(ax)
        return
    ax.set_xscale("log")
    spread = max(known.max(), 2) / min(known.min(), 0.5)
    ticks = (1.0, 2.0, 5.0) if spread < 12 else (1.0, 3.0) if spread < 100 else (1.0,)
    ax.xaxis.set_major_locator(LogLocator(subs=ticks))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlim(min(known.min() / 1.2, 0.5), max(known.max() * 1.2, 2))
