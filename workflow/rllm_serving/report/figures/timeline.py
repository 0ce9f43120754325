"""Figure: KV-cache use and running requests over time, LLM beside RLLM (claim C1)."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from . import style

ROWS = {"kv_cache_usage": ("KV cache\nin use (%)", 100.0), "running": ("Running\nrequests", 1.0)}


@style.styled
def draw(server: pd.DataFrame, summary: pd.DataFrame, pairs: style.Pairs, pdf: Path | str, png: Path | str) -> None:
    """The first repeat of the hardest set (longest RLLM outputs) at the largest load and the largest budget.

    server: server.parquet of the runs of one experiment; summary: their `points.summary`, which says what is
    hardest.
    """
    samples, known = style.roles(server, pairs), style.roles(summary, pairs)
    most, dataset = style.largest_load(known), style.by_length(known)[-1]
    load, budget = most["load"].iloc[0], most["budget"].iloc[0]
    samples = style.select(samples, dataset=dataset, load=load, budget=budget).sort_values("time")
    samples = samples[samples["repeat"] == samples["repeat"].min()]
    names, engines = sorted(known["pair"].unique()), style.engines(known)
    rows = [(pair, engine, column) for pair in names for engine in engines for column in ROWS]
    fig, axes = style.figure(len(rows), len(style.ROLES), 1.2, sharex=True)
    for (r, (pair, engine, column)), (c, role) in product(enumerate(rows), enumerate(style.ROLES)):
        ax, (label, scale) = axes[r, c], ROWS[column]
        mine = style.select(samples, pair=pair, engine=engine, role=role)
        mine = mine[mine[column].notna()]
        if mine.empty:
            style.annotate_empty(ax)
        value = mine[column].astype(float) * scale
        look: dict[str, Any] = {"color": style.COLOURS[role], "step": "post", "lw": 0, "alpha": 0.2}
        ax.step(mine["time"], value, color=style.COLOURS[role], where="post", lw=1)
        ax.fill_between(mine["time"], value, **look)
        # One scale for a quantity in the whole figure: models and engines are to be compared.
        top = (samples[column].astype(float) * scale).max()
        ax.set_ylim(0, top * 1.05 if top > 0 else 1)
        if column == next(iter(ROWS)):
            title = f"{style.ROLES[role]}: {pairs[pair].get(role, 'none')}, {style.engine_name(engine)}"
            ax.set_title(title)
        if c == 0:
            ax.set_ylabel(label)
    for ax in axes[-1]:
        ax.set_xlabel("Time since the point's start (s)")
    fig.suptitle(f"{dataset}, {style.describe_selection(most)}, one repeat", fontsize=8.5)
    fig.align_ylabels(axes[:, 0])
    style.save(fig, pdf, png)
