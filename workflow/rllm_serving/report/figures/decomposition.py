"""Figure: what each change of E2E against the baseline is made of."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from . import style
from .optimisations import server

# Part of `analysis.decomposition`: label, colour of Okabe and Ito's, hatch for print in grey.
PARTS = {
    "queue_and_prefill": ("Queue and prefill", "#CC79A7", "..."),
    "thinking": ("Thinking tokens", "#D55E00", ""),
    "answer": ("Answer tokens", "#56B4E9", "///"),
    "speed": ("Time per token", "#009E73", "\\\\\\"),
}
PERCENT = 100.0


@style.styled
def draw(why: pd.DataFrame, pairs: style.Pairs, pdf: Path | str, png: Path | str) -> None:
    """Columns are engines, each LLM beside RLLM; rows datasets (once a pair); in a panel a bar a setup or format.

    why: rows of `decomposition.decompose` of one experiment with the baseline; shown at the largest load and budget.
    Parts are stacked from 0, what is saved to the left; the diamond is the whole change with its interval. Percent of
    the reference's mean E2E.
    """
    frame = style.largest_load(style.roles(why, pairs, several=True)).copy()
    frame["line"] = server(frame)
    lines = list(dict.fromkeys(frame.sort_values(["quantization", "setup"], key=lambda c: c != "bf16")["line"]))
    known = frame.sort_values("e2e_latency_baseline")["dataset"].unique()
    rows = list(product(style.ordered(frame["dataset"], known), sorted(frame["pair"].unique())))
    columns = list(product(style.engines(frame), style.ordered(frame["role"], style.ROLES)))
    fig, axes = style.figure(len(rows), len(columns), 0.55 + 0.19 * len(lines), sharey=True)
    for (r, (dataset, pair)), (c, (engine, role)) in product(enumerate(rows), enumerate(columns)):
        ax = axes[r, c]
        _panel(ax, style.select(frame, dataset=dataset, pair=pair, engine=engine, role=role), lines)
        if r == 0:
            ax.set_title(f"{style.engine_name(engine)}, {style.ROLES[role]}")
        if c == 0:
            ax.set_ylabel(f"{dataset}\n{pair}" if len({pair for _, pair in rows}) > 1 else dataset)
    for ax in axes[-1]:
        ax.set_xlabel("Change of E2E (%)")
    entries: list[Patch | Line2D] = [
        Patch(facecolor=colour, hatch=hatch, edgecolor="black", lw=0.4, label=label)
        for label, colour, hatch in PARTS.values()
    ]
    entries.append(Line2D([], [], color="black", marker="D", mfc="white", lw=0.8, label="whole, 95 % interval"))
    entries += style.invalid(frame, **style.CROSS)
    style.legend(fig, entries, f"Mean E2E against the baseline, {style.describe_selection(frame)}", "")
    fig.align_ylabels(axes[:, 0])
    style.save(fig, pdf, png)


def _panel(ax: Axes, panel: pd.DataFrame, lines: list[str]) -> None:
    ax.axvline(0, color=style.GREY, lw=0.8, zorder=1)
    ax.set_yticks(range(len(lines)), lines)
    ax.set_ylim(len(lines) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
    ax.use_sticky_edges = False  # bars end before the frame
    panel = panel[panel["delta_e2e_latency"].notna()]
    if panel.empty:
        style.annotate_empty(ax)
        return
    y = panel["line"].map(lines.index).to_numpy(dtype=float)
    scale = PERCENT / panel["e2e_latency_baseline"].to_numpy(dtype=float)
    ends = {1: np.zeros(len(y)), -1: np.zeros(len(y))}
    for name, (_, colour, hatch) in PARTS.items():
        value = np.nan_to_num(panel[name].to_numpy(dtype=float)) * scale
        for sign, end in ends.items():
            width = np.where(value * sign > 0, value, 0)
            ax.barh(y, width, 0.66, end, color=colour, hatch=hatch, edgecolor="black", lw=0.4, zorder=2)
            ends[sign] = end + width
    whole = panel["delta_e2e_latency"].to_numpy(dtype=float) * scale
    spread = style.error(panel, "delta_e2e_latency") * scale
    beyond = panel["invalid"].notna().to_numpy()
    ax.plot(whole[beyond], y[beyond], **style.CROSS)
    ax.errorbar(whole, y, xerr=spread, color="black", marker="D", mfc="white", ls="", capsize=2, zorder=4)
