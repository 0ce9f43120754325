"""Figure: accuracy by domain, LLM beside RLLM (claim C4)."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from . import style


@style.styled
def draw(breakdown: pd.DataFrame, pairs: style.Pairs, pdf: Path | str, png: Path | str) -> None:
    """Columns are engines, rows pairs; a line a domain of a dataset, dots with intervals for LLM and RLLM.

    breakdown: rows of `points.breakdown` by domain of one experiment; shown at the largest load
    and budget.
    """
    frame = style.largest_load(style.roles(breakdown, pairs))
    seen = set(zip(frame["domain"], frame["dataset"], strict=True))
    groups = [group for group in product(sorted(set(frame["domain"])), style.by_length(frame)) if group in seen]
    names, engines = sorted(frame["pair"].unique()), style.engines(frame)
    height = 0.26 * len(groups) + 0.5
    fig, axes = style.figure(len(names), len(engines), height, sharex=True, sharey=True)
    for (p, pair), (c, engine) in product(enumerate(names), enumerate(engines)):
        ax, panel = axes[p, c], style.select(frame, pair=pair, engine=engine)
        for role, shift in (("llm", -0.14), ("rllm", 0.14)):
            rows = style.select(panel, role=role)
            y = [groups.index(key) + shift for key in zip(rows["domain"], rows["dataset"], strict=True)]
            look: dict[str, Any] = {"color": style.COLOURS[role], "marker": style.MARKERS[role], "ls": ""}
            ax.errorbar(rows["accuracy"] * 100, y, xerr=style.error(rows, "accuracy", 100), capsize=2, **look)
            style.mark_invalid(ax, rows["accuracy"] * 100, y, rows, role)
        if panel["accuracy"].isna().all():
            style.annotate_empty(ax)
        name = style.engine_name(engine)
        ax.set_title(f"{pair}, {name}" if len(names) > 1 else name)
    axes[0, 0].set_yticks(range(len(groups)), [f"{domain} ({dataset})" for domain, dataset in groups])
    axes[0, 0].set(ylim=(len(groups) - 0.5, -0.5), xlim=(-3, 103))
    for ax in axes[-1]:
        ax.set_xlabel("Accuracy (%)")
    style.legend(fig, [*style.legend_handles([]), *style.invalid(frame)], style.describe_selection(frame))
    style.save(fig, pdf, png)
