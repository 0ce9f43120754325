"""Figure: each engine against the first one at equal load."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from . import ratios, style


@style.styled
def draw(versus: pd.DataFrame, pairs: style.Pairs, pdf: Path | str, png: Path | str) -> None:
    """Columns are metrics, rows the compared engines (once a pair), lines datasets and loads; see `ratios.draw`.

    versus: rows of `comparison.compare` of one experiment, baselines only; shown at the largest budget.
    """
    frame = versus[(versus["setup"] == "baseline") & (versus["quantization"] == "bf16")]
    frame = style.roles(frame[frame["budget"] == frame["budget"].max()], pairs)
    length = style.select(frame, metric="output_tokens").groupby("dataset")["value"].max().sort_values()
    datasets = style.ordered(frame["dataset"], length.index)
    loads = frame[["load", "load_level"]].drop_duplicates().sort_values("load_level")["load"].tolist()
    one = len(loads) == 1
    lines = [dataset if one else f"{dataset}, {load}" for dataset in datasets for load in loads]
    frame["line"] = frame["dataset"] if one else frame["dataset"] + ", " + frame["load"]
    frame["row"] = list(zip(frame["engine"], frame["against"], frame["pair"], strict=True))
    several = frame["pair"].nunique() > 1
    rows = {}
    for engine, against, pair in sorted(set(frame["row"])):
        name = f"{style.engine_name(engine)} / {style.engine_name(against.split('/')[0])}"
        rows[engine, against, pair] = f"{name}\n{pair}" if several else name
    ratios.draw(frame, lines, rows, f"Ratio at equal load, budget {frame['budget'].iloc[0]} tokens", pdf, png)
