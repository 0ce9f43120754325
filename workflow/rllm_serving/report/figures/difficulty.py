"""Figure: running time and output tokens against the questions' difficulty, LLM beside RLLM (claim C3)."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.lines import Line2D

from . import style

ROWS = {"e2e_latency": "E2E running time (s)", "output_tokens": "Output tokens"}
ORDER = ["easy", "medium", "hard"]


@style.styled
def draw(breakdown: pd.DataFrame, pairs: style.Pairs, pdf: Path | str, png: Path | str) -> None:
    """Columns are engines, rows E2E and output tokens (once a pair): mean with interval, and p99 as a dash.

    breakdown: rows of `points.breakdown` by difficulty of one experiment; shown at the largest
    load and budget.
    """
    frame = style.largest_load(style.roles(breakdown, pairs))
    seen = set(zip(frame["difficulty"], frame["dataset"], strict=True))
    levels = style.ordered(frame["difficulty"], ORDER)
    groups = [group for group in product(levels, style.by_length(frame)) if group in seen]
    names, engines = sorted(frame["pair"].unique()), style.engines(frame)
    fig, axes = style.figure(len(ROWS) * len(names), len(engines), 1.7, sharex=True, sharey="row")
    dash: dict[str, Any] = {"marker": "_", "ms": 8, "mew": 1.5, "ls": ""}
    rows = [(pair, metric) for pair in names for metric in ROWS]
    for (r, (pair, metric)), (c, engine) in product(enumerate(rows), enumerate(engines)):
        ax, mean, values = axes[r, c], f"{metric}_mean", style.select(frame, pair=pair)
        for role, shift in (("llm", -0.12), ("rllm", 0.12)):
            mine = style.select(values, engine=engine, role=role)
            keys = zip(mine["difficulty"], mine["dataset"], strict=True)
            x, colour = [groups.index(key) + shift for key in keys], style.COLOURS[role]
            spread, marker = style.error(mine, mean), style.MARKERS[role]
            ax.errorbar(x, mine[mean], spread, color=colour, marker=marker, ls="", capsize=2)
            ax.plot(x, mine[f"{metric}_p99"], color=colour, **dash)
            style.mark_invalid(ax, x, mine[mean], mine, role)
        style.log10_axis(ax, values[mean])
        if style.select(values, engine=engine)[mean].isna().all():
            style.annotate_empty(ax)
        ax.set_xticks(range(len(groups)), ["\n".join(group) for group in groups])
        ax.set_xlim(-0.5, len(groups) - 0.5)
        ax.grid(axis="x", visible=False)
        if r % len(ROWS) == 0:
            name = style.engine_name(engine)
            ax.set_title(f"{pair}, {name}" if len(names) > 1 else name)
        if c == 0:
            ax.set_ylabel(ROWS[metric])
    for ax in axes[-1]:
        ax.set_xlabel("Difficulty and dataset")
    p99 = Line2D([], [], color=style.GREY, label="p99", **dash)
    style.legend(fig, [*style.legend_handles([]), p99, *style.invalid(frame)], style.describe_selection(frame))
    fig.align_ylabels(axes[:, 0])
    style.save(fig, pdf, png)
