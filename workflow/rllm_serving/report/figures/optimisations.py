"""Figure: every setup and weight format against the baseline."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from . import ratios, style


def server(frame: pd.DataFrame) -> pd.Series:
    """What a server has that the baseline has not: its weight format, its setup, or both."""
    both = frame["quantization"] + " + " + frame["setup"]
    return both.mask(frame["quantization"] == "bf16", frame["setup"]).mask(
        frame["setup"] == "baseline", frame["quantization"]
    )


@style.styled
def draw(versus: pd.DataFrame, pairs: style.Pairs, pdf: Path | str, png: Path | str) -> None:
    """Columns are metrics, rows engines and datasets (once a pair), lines setups and weight formats.

    versus: rows of `comparison.compare` of one experiment with the baseline; shown at the largest load and budget.
    """
    frame = style.largest_load(style.roles(versus, pairs, several=True)).copy()
    frame["line"] = server(frame)
    lines = list(dict.fromkeys(frame.sort_values(["quantization", "setup"], key=lambda c: c != "bf16")["line"]))
    frame["row"] = list(zip(frame["engine"], frame["dataset"], frame["pair"], strict=True))
    many = frame["pair"].nunique() > 1
    rows = {}
    for engine, dataset, pair in sorted(set(frame["row"])):
        rows[engine, dataset, pair] = f"{style.engine_name(engine)}\n{dataset}" + (f"\n{pair}" if many else "")
    ratios.draw(frame, lines, rows, f"Ratio to the baseline, {style.describe_selection(frame)}", pdf, png)
