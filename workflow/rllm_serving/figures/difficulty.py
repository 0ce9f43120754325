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
    """Columns are engines (and pairs), rows E2E and output tokens: mean with interval, and p99 as a dash.

    breakdown: rows of `points.breakdown` by difficulty of one experiment; the largest load and budget are shown.
    """
    frame = style.roles(breakdown, pairs)
    frame = frame[frame["load_size"] == frame["load_size"].max()]
    frame = frame[frame["budget"] == frame["budget"].max()]
    levels = style.ordered(frame["difficulty"], ORDER)
    groups = [
        (level, dataset)
        for level in levels
        for dataset in style.by_length(frame)
        if ((frame["difficulty"] == level) & (frame["dataset"] == dataset)).any()
    ]
    panels = [(pair, engine) for pair in sorted(frame["pair"].unique()) for engine in style.engines(frame)]
    fig, axes = style.figure(len(ROWS), len(panels), 1.7, sharex=True, sharey="row")
    for c, (pair, engine) in enumerate(panels):
        for r, (metric, label) in enumerate(ROWS.items()):
            ax = axes[r, c]
            for role, shift in (("llm", -0.12), ("rllm", 0.12)):
                rows = frame[(frame[["pair", "engine", "role"]] == [pair, engine, role]).all(axis=1)]
                x = [groups.index(key) + shift for key in zip(rows["difficulty"], rows["dataset"], strict=True)]
                look = {"color": style.COLOURS[role], "ls": ""}
                mean = f"{metric}_mean"
                ax.errorbar(x, rows[mean], style.error(rows, mean), marker=style.MARKERS[role], capsize=2, **look)
                ax.plot(x, rows[f"{metric}_p99"], marker="_", markersize=8, markeredgewidth=1.5, **look)
            ax.set_yscale("log")
            ax.set_xticks(range(len(groups)), [f"{level}\n{dataset}" for level, dataset in groups])
            ax.set_xlim(-0.5, len(groups) - 0.5)
            ax.grid(axis="x", visible=False)
            if r == 0:
                name = style.ENGINES.get(engine, engine)
                ax.set_title(f"{pair}, {name}" if frame["pair"].nunique() > 1 else name)
        axes[-1, c].set_xlabel("Difficulty and dataset")
    for r, label in enumerate(ROWS.values()):
        axes[r, 0].set_ylabel(label)
    grey = {"color": "#555555", "ls": ""}
    extra = [Line2D([], [], marker="_", markersize=8, markeredgewidth=1.5, label="p99", **grey)]
    style.legend(fig, style.role_handles() + extra, f"load {frame['load'].iloc[0]}, budget {frame['budget'].iloc[0]} tokens")
    fig.align_ylabels(axes[:, 0])
    style.save(fig, pdf, png)
