"""Figure: accuracy by domain, LLM beside RLLM (claim C4)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from . import style


@style.styled()
def draw(breakdown: pd.DataFrame, pairs: style.Pairs, pdf: Path | str, png: Path | str) -> None:
    """Columns are engines, rows pairs; a line a domain of a dataset, dots with intervals for LLM and RLLM.

    breakdown: rows of `points.breakdown` by domain of one experiment; the largest load and budget are shown.
    """
    frame = style.largest(style.roles(breakdown, pairs))
    seen = set(zip(frame["dataset"], frame["domain"], strict=True))
    groups = [
        (d, domain)
        for domain in sorted(set(frame["domain"]))
        for d in style.by_length(frame)
        if (d, domain) in seen
    ]
    names, engines = sorted(frame["pair"].unique()), style.engines(frame)
    fig, axes = style.figure(len(names), len(engines), 0.26 * len(groups) + 0.5, sharex=True, sharey=True)
    for p, pair in enumerate(names):
        for c, engine in enumerate(engines):
            ax = axes[p, c]
            for role, shift in (("llm", -0.14), ("rllm", 0.14)):
                rows = frame[(frame[["pair", "engine", "role"]] == [pair, engine, role]).all(axis=1)]
                y = [groups.index(key) + shift for key in zip(rows["dataset"], rows["domain"], strict=True)]
                spread = style.error(rows, "accuracy", 100)
                look = {"color": style.COLOURS[role], "marker": style.MARKERS[role]}
                ax.errorbar(rows["accuracy"] * 100, y, xerr=spread, ls="", capsize=2, **look)
            if frame.loc[(frame["pair"] == pair) & (frame["engine"] == engine), "accuracy"].isna().all():
                style.nothing(ax)
            name = style.ENGINES.get(engine, engine)
            ax.set_title(f"{pair}, {name}" if len(names) > 1 else name)
    axes[0, 0].set_yticks(range(len(groups)), [f"{domain} ({dataset})" for dataset, domain in groups])
    axes[0, 0].set_ylim(len(groups) - 0.5, -0.5)
    axes[0, 0].set_xlim(-3, 103)
    for ax in axes[-1]:
        ax.set_xlabel("Accuracy (%)")
    style.legend(fig, style.role_handles(), style.held(frame))
    style.save(fig, pdf, png)
