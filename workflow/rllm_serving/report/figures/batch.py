"""Figure: accuracy, answered share, throughput and TTFVT against the batch size (claim C6)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from . import style, sweep


@style.styled
def draw(summary: pd.DataFrame, pairs: style.Pairs, pdf: Path | str, png: Path | str) -> None:
    """summary: rows of `points.summary` of one experiment; its batch loads at the largest token budget."""
    frame = style.roles(summary[summary["load"].str.startswith("batch")], pairs)
    budget = frame["budget"].max()
    sweep.draw(frame[frame["budget"] == budget], "load_level", "Batch size", f"budget {budget} tokens", pdf, png)
