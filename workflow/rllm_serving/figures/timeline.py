"""Figure: KV-cache use and running requests over time, LLM beside RLLM (claim C1)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from . import style

ROWS = {"kv_use": ("KV cache\nin use (%)", 100.0), "running": ("Running\nrequests", 1.0)}


@style.styled()
def draw(
    server: pd.DataFrame, summary: pd.DataFrame, pairs: style.Pairs, pdf: Path | str, png: Path | str
) -> None:
    """The first repeat of the hardest set (longest RLLM outputs) at the largest load and the largest budget.

    server: server.parquet of the runs of one experiment; summary: their `points.summary`, which says what is hardest.
    """
    samples, known = style.roles(server, pairs), style.roles(summary, pairs)
    size, budget, dataset = known["load_size"].max(), known["budget"].max(), style.by_length(known)[-1]
    load = known.loc[known["load_size"] == size, "load"].iloc[0]
    chosen = (samples["load"] == load) & (samples["budget"] == budget) & (samples["dataset"] == dataset)
    samples = samples[chosen & (samples["repeat"] == samples["repeat"].min())].sort_values("time")
    engines = style.engines(known)
    blocks = [(pair, engine) for pair in sorted(known["pair"].unique()) for engine in engines]
    fig, axes = style.figure(len(blocks) * len(ROWS), len(style.ROLES), 1.2, sharex=True)
    for b, (pair, engine) in enumerate(blocks):
        for r, (column, (label, scale)) in enumerate(ROWS.items()):
            for c, (role, name) in enumerate(style.ROLES.items()):
                ax = axes[b * len(ROWS) + r, c]
                mine = (samples["pair"] == pair) & (samples["engine"] == engine) & (samples["role"] == role)
                rows = samples[mine & samples[column].notna()]
                if rows.empty:
                    style.nothing(ax)
                step = "post" if column == "running" else None
                value, colour = rows[column].astype(float) * scale, style.COLOURS[role]
                ax.plot(
                    rows["time"], value, color=colour, drawstyle=f"steps-{step}" if step else "default", lw=1
                )
                ax.fill_between(rows["time"], value, color=colour, alpha=0.2, step=step, lw=0)
                # One scale for a quantity in the whole figure: models and engines are to be compared.
                top = (samples[column].astype(float) * scale).max()
                ax.set_ylim(0, top * 1.05 if top > 0 else 1)
                if r == 0:
                    model = pairs[pair].get(role, "")
                    ax.set_title(f"{name}: {model}, {style.ENGINES.get(engine, engine)}")
            axes[b * len(ROWS) + r, 0].set_ylabel(label)
    for ax in axes[-1]:
        ax.set_xlabel("Time since the point's start (s)")
    fig.suptitle(f"{dataset}, load {load}, budget {budget} tokens, one repeat", fontsize=8.5)
    fig.align_ylabels(axes[:, 0])
    style.save(fig, pdf, png)
