"""Figure: how requests finish within batches, and how long a batch waits for its last requests (C2)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import style
from .facet import Facet, dataset_columns, facet, pair_blocks

METRIC = "straggler_time_fraction"


def relative_finish(requests: pd.DataFrame) -> pd.DataFrame:
    """Return the completed requests of batches with `relative`, their finish as a share of the batch's time (0..1)."""
    ok = requests[requests["completed"] & requests["batch"].notna()]
    batch = ok.groupby(["engine", "model", "pair", "dataset", "load", "budget", "repeat", "batch"])
    start, end = batch["arrival"].transform("min"), batch["end"].transform("max")
    return ok.assign(relative=(ok["end"] - start) / (end - start))


def stragglers(requests: pd.DataFrame, summary: pd.DataFrame, pairs: style.Pairs) -> Figure:
    """Draw `request_metrics.latencies` and `points.Tables.summary` at the largest budget; columns are datasets.

    Upper row: requests finished against the batch's time, all batches of the largest size pooled. Lower row: share of
    a batch's time with fewer than half of its requests running, against the batch size.
    """
    frame = style.largest(style.with_roles(summary[summary["load"].str.startswith("batch")], pairs), "budget")
    budget, size = frame["budget"].max(), frame["load_level"].max()
    of_batches = style.with_roles(requests[requests["load"].str.startswith("batch")], pairs)
    ends = relative_finish(style.select(of_batches, budget=budget, load_level=size))
    ends = ends[["pair", "role", "engine", "dataset", "relative"]].assign(level="request")
    shown = pd.concat([frame.assign(level="batch"), ends], ignore_index=True)

    def panel(ax: Axes, part: pd.DataFrame, row: Facet) -> None:
        for role, engine, line, offset in style.series(frame):
            rows = style.select(part, role=role, engine=engine).sort_values("load_level")
            relative = np.sort(rows["relative"].dropna())
            if row.metric:
                style.intervals(ax, rows, METRIC, rows["load_level"] * 2 ** (0.09 * offset), ls=line)
            elif len(relative):
                finished = np.arange(len(relative) + 1) / len(relative) * 100
                look: dict[str, Any] = {"color": style.COLOURS[role], "marker": style.MARKERS[role], "ls": line}
                ax.step([0, *relative], finished, where="post", markevery=(0.1, 0.2), **look)
        style.annotate_empty(ax, part[row.metric or "relative"])
        if row.metric:
            style.log2_axis(ax, frame["load_level"])
            ax.set_xlabel("Batch size")
        else:
            ax.axhline(50, color="#777777", lw=0.8, ls=":")
            ax.set(xlim=(0, 1.02), ylim=(-4, 104), xlabel="Time in batch (share)")

    rows = []
    for pair, block in pair_blocks(frame):
        rows.append(Facet({"pair": pair, "level": "request"}, f"Requests finished (%)\nbatches of {size:g}", block))
        rows.append(Facet({"pair": pair, "level": "batch"}, block=block, metric=METRIC))
    figure = facet(shown, rows, dataset_columns(frame), panel, 1.6, "Batch size", sharey="row")
    entries = [*style.legend_handles(frame, with_engines=True), *style.invalid_handles(frame)]
    style.legend(figure, entries, f"budget {budget} tokens", style.bar_text(frame, [METRIC]))
    return figure
