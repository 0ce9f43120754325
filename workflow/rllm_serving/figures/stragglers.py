"""Figure: how running times spread within batches, and how long a batch waits for its last requests (claim C2)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from . import style


def relative(requests: pd.DataFrame) -> pd.DataFrame:
    """Successful requests with `relative`: their finish as a share of the time their batch took (0..1).

    requests: rows of `requests.latencies` of batch loads, with the server's keys and `pair` (`style.roles`).
    """
    ok = requests[requests["ok"] & requests["batch"].notna()]
    batch = ok.groupby(
        ["engine", "model", "pair", "dataset", "load", "budget", "repeat", "batch"], observed=True
    )
    start, end = batch["arrival"].transform("min"), batch["end"].transform("max")
    return ok.assign(relative=(ok["end"] - start) / (end - start))


@style.styled()
def draw(
    requests: pd.DataFrame, summary: pd.DataFrame, pairs: style.Pairs, pdf: Path | str, png: Path | str
) -> None:
    """Columns are datasets. Upper row: share of requests finished against the batch's time, all batches pooled, at
    the largest batch. Lower row: straggler share (`points.METRICS`) against batch size. Both at the largest budget.

    requests: rows of `requests.latencies` of one experiment; summary: its `points.summary`. Loads other than batch
    are left out.
    """
    known = style.roles(summary[summary["load"].str.startswith("batch")], pairs)
    size, budget = known["load_size"].max(), known["budget"].max()
    of_batch = style.roles(requests[requests["load"].str.startswith("batch")], pairs)
    finished = relative(of_batch[(of_batch["budget"] == budget) & (of_batch["load_size"] == size)])
    known = known[known["budget"] == budget]
    engines, datasets, names = style.engines(known), style.by_length(known), sorted(known["pair"].unique())
    fig, axes = style.figure(2 * len(names), len(datasets), 1.6, sharey="row")
    series = [(role, engine) for role in style.ROLES for engine in engines]
    for p, pair in enumerate(names):
        for d, dataset in enumerate(datasets):
            upper, lower = axes[2 * p, d], axes[2 * p + 1, d]
            for k, (role, engine) in enumerate(series):
                colour, line = style.COLOURS[role], style.LINES[engines.index(engine)]
                rows, bars = (
                    f[(f[["pair", "dataset", "role", "engine"]] == [pair, dataset, role, engine]).all(axis=1)]
                    for f in (finished, known)
                )
                at = np.sort(rows["relative"].dropna().to_numpy())
                if len(at):
                    upper.step(
                        [0, *at], np.arange(len(at) + 1) / len(at) * 100, where="post", c=colour, ls=line
                    )
                bars = bars.sort_values("load_size")
                x = bars["load_size"] * 2 ** (0.09 * (k - (len(series) - 1) / 2))
                spread = style.error(bars, "straggler_share", 100)
                lower.errorbar(
                    x,
                    bars["straggler_share"] * 100,
                    spread,
                    c=colour,
                    ls=line,
                    marker=style.MARKERS[role],
                    capsize=1.5,
                )
            for ax, data, column in ((upper, finished, "relative"), (lower, known, "straggler_share")):
                if data.loc[(data["pair"] == pair) & (data["dataset"] == dataset), column].isna().all():
                    style.nothing(ax)
            upper.axhline(50, color="#777777", lw=0.8, ls=":")
            upper.set_title(f"{dataset}\n{pair}" if len(names) > 1 else dataset)
            upper.set_xlabel("Time in batch (share)")
            upper.set_xlim(0, 1.02)
            style.log2_axis(lower, known["load_size"])
            lower.set_xlabel("Batch size")
        axes[2 * p, 0].set_ylabel(f"Requests finished (%)\nbatches of {size}")
        axes[2 * p + 1, 0].set_ylabel("Batch time with less\nthan half running (%)")
        axes[2 * p + 1, 0].set_ylim(-4, 104)
    handles = style.role_handles() + (style.engine_handles(engines) if len(engines) > 1 else [])
    style.legend(fig, handles, f"budget {budget} tokens")
    fig.align_ylabels(axes[:, 0])
    style.save(fig, pdf, png)
