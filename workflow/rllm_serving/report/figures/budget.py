"""Figure: accuracy, answered share, throughput and TTFVT against the token budget (claim C5)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from . import style, sweep


@style.styled
def draw(summary: pd.DataFrame, pairs: style.Pairs, pdf: Path | str, png: Path | str) -> None:
    """summary: rows of `points.summary` of one experiment; of several loads the largest is shown."""
    frame = style.roles(summary, pairs)
    frame = frame[frame["load_level"] == frame["load_level"].max()]
    sweep.draw(frame, "budget", "Token budget", f"load {frame['load'].iloc[0]}", pdf, png)
