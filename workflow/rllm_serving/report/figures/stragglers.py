"""Figure: running times within batches, and how long a batch waits for its last requests (claim C2)."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from . import style


def relative(requests: pd.DataFrame) -> pd.DataFrame:
    """Successful requests with `relative`: their finish as a share of the time their batch took (0..1).

    requests: rows of `request_metrics.latencies` of batch loads, with the server's keys and `pair` (`style.roles`).
    """
    ok = requests[requests["completed"] & requests["batch"].notna()]
    batch = ok.groupby(["engine", "model", "pair", "dataset", "load", "budget", "repeat", "batch"])
    start, end = batch["arrival"].transform("min"), batch["end"].transform("max")
    return ok.assign(relative=(ok["end"] - start) / (end - start))


@style.styled
def draw(requests: pd.DataFrame, summary: pd.DataFrame, pairs: style.Pairs, pdf: Path | str, png: Path | str) -> None:
    """Columns are datasets. Upper row: share of requests finished against the batch's time, all batches
    pooled, at the largest batch. Lower row: straggler share (`metrics.METRICS`) against batch size.
    Both at the largest budget.

    requests: rows of `request_metrics.latencies` of one experiment; summary: its `points.summary`. Loads other than
    batch are left out.
    """
    known = style.roles(summary[summary["load"].str.startswith("batch")], pairs)
    known = known[known["budget"] == known["budget"].max()]
    budget, size = (known[name].max() for name in ("budget", "load_level"))
    of_batch = style.roles(requests[requests["load"].str.startswith("batch")], pairs)
    finished = relative(of_batch[(of_batch["budget"] == budget) & (of_batch["load_level"] == size)])
    engines, datasets, names = style.engines(known), style.by_length(known), sorted(known["pair"].unique())
    fig, axes = style.figure(2 * len(names), len(datasets), 1.6, sharey="row")
    for (p, pair), (d, dataset) in product(enumerate(names), enumerate(datasets)):
        upper, lower = axes[2 * p : 2 * p + 2, d]
        ends, shares = (style.select(frame, pair=pair, dataset=dataset) for frame in (finished, known))
        for role, engine, line, shift in style.series(engines):
            look: dict[str, Any] = {"color": style.COLOURS[role], "ls": line}
            dots: dict[str, Any] = {"marker": style.MARKERS[role], "markevery": (0.1, 0.2)}
            at = np.sort(style.select(ends, role=role, engine=engine)["relative"].dropna())
            if len(at):
                upper.step([0, *at], np.arange(len(at) + 1) / len(at) * 100, where="post", **look, **dots)
            bars = style.select(shares, role=role, engine=engine).sort_values("load_level")
            x, y = bars["load_level"] * shift, bars["straggler_time_fraction"] * 100
            spread = style.error(bars, "straggler_time_fraction", 100)
            lower.errorbar(x, y, spread, marker=style.MARKERS[role], capsize=1.5, elinewidth=0.8, **look)
            style.mark_invalid(lower, x, y, bars, role)
        for ax, values in ((upper, ends["relative"]), (lower, shares["straggler_time_fraction"])):
            if values.isna().all():
                style.annotate_empty(ax)
        upper.axhline(50, color="#777777", lw=0.8, ls=":")
        upper.set(title=f"{dataset}\n{pair}" if len(names) > 1 else dataset, xlim=(0, 1.02), ylim=(-4, 104))
        upper.set_xlabel("Time in batch (share)")
        style.log2_axis(lower, known["load_level"])
        lower.set_xlabel("Batch size")
        if d == 0:
            upper.set_ylabel(f"Requests finished (%)\nbatches of {size}")
            lower.set(ylabel="Batch time with less\nthan half running (%)", ylim=(-4, 104))
    style.legend(fig, [*style.legend_handles(engines), *style.invalid(known)], f"budget {budget} tokens")
    fig.align_ylabels(axes[:, 0])
    style.save(fig, pdf, png)
