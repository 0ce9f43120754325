"""Figure: running time and output tokens against the questions' difficulty, LLM beside RLLM (claim C3)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.lines import Line2D

from . import style

ROWS = {"e2e": "E2E running time (s)", "output_tokens": "Output tokens"}
ORDER = ["easy", "medium", "hard"]


@style.styled()
def draw(breakdown: pd.DataFrame, pairs: style.Pairs, pdf: Path | str, png: Path | str) -> None:
    """Columns are engines, rows E2E and output tokens (once a pair): mean with interval, and p99 as a dash.

    breakdown: rows of `points.breakdown` by difficulty of one experiment; the largest load and budget are shown.
    """
    frame = style.largest(style.roles(breakdown, pairs))
    levels = style.ordered(frame["difficulty"], ORDER)
    groups = [
        (level, dataset)
        for level in levels
        for dataset in style.by_length(frame)
        if ((frame["difficulty"] == level) & (frame["dataset"] == dataset)).any()
    ]
    names, engines = sorted(frame["pair"].unique()), style.engines(frame)
    fig, axes = style.figure(len(ROWS) * len(names), len(engines), 1.7, sharex=True, sharey="row")
    for c, engine in enumerate(engines):
        for r, (pair, metric) in enumerate((pair, metric) for pair in names for metric in ROWS):
            ax = axes[r, c]
            for role, shift in (("llm", -0.12), ("rllm", 0.12)):
                rows = frame[(frame[["pair", "engine", "role"]] == [pair, engine, role]).all(axis=1)]
                x = [
                    groups.index(key) + shift for key in zip(rows["difficulty"], rows["dataset"], strict=True)
                ]
                look = {"color": style.COLOURS[role], "ls": ""}
                mean = f"{metric}_mean"
                ax.errorbar(
                    x, rows[mean], style.error(rows, mean), marker=style.MARKERS[role], capsize=2, **look
                )
                ax.plot(x, rows[f"{metric}_p99"], marker="_", markersize=8, markeredgewidth=1.5, **look)
            values = frame.loc[frame["pair"] == pair, f"{metric}_mean"]
            style.log10_axis(ax, values)
            if values.isna().all():
                style.nothing(ax)
            ax.set_xticks(range(len(groups)), [f"{level}\n{dataset}" for level, dataset in groups])
            ax.set_xlim(-0.5, len(groups) - 0.5)
            ax.grid(axis="x", visible=False)
            if r % len(ROWS) == 0:
                name = style.ENGINES.get(engine, engine)
                ax.set_title(f"{pair}, {name}" if len(names) > 1 else name)
            if c == 0:
                ax.set_ylabel(ROWS[metric])
        axes[-1, c].set_xlabel("Difficulty and dataset")
    grey = {"color": "#555555", "ls": ""}
    extra = [Line2D([], [], marker="_", markersize=8, markeredgewidth=1.5, label="p99", **grey)]
    style.legend(fig, style.role_handles() + extra, style.held(frame))
    fig.align_ylabels(axes[:, 0])
    style.save(fig, pdf, png)
