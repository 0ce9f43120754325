"""Figures: changes from baseline to candidate with intervals, for engines and for optimisations (C7 to C10)."""

from __future__ import annotations

import textwrap
from itertools import product

import pandas as pd
from matplotlib.figure import Figure

from . import style
from .forest import forest

METRICS = ["accuracy", "output_throughput", "ttfvt", "tpot", "e2e_latency", "kv_cache_usage"]
NOTE_WIDTH = 125
"""Characters of a line below the panels."""


def engines(comparison: pd.DataFrame, pairs: style.Pairs) -> Figure:
    """Draw baseline servers of `comparison.compare`, each engine against the first; a line a dataset and load."""
    frame = style.select(comparison, setup="baseline", quantization="bf16")
    frame = style.largest(style.with_roles(frame, pairs), "budget").sort_values("load_level")
    frame["line"] = frame["dataset"] + ", " + frame["load"] if frame["load"].nunique() > 1 else frame["dataset"]
    lines = [line for name in _datasets(frame) for line in style.select(frame, dataset=name)["line"].unique()]
    baseline = frame["against"].str.split("/").str[0]
    names = frame["engine"].map(style.ENGINES) + " / " + baseline.map(style.ENGINES)
    frame["group"] = names + ", " + frame["pair"] if frame["pair"].nunique() > 1 else names
    groups = style.ordered(frame["group"])
    return forest(frame, METRICS, groups, lines, f"Ratio at equal load, budget {frame['budget'].iloc[0]} tokens")


def optimisations(comparison: pd.DataFrame, pairs: style.Pairs) -> Figure:
    """Draw rows of `comparison.compare` with the baseline; a line a setup or weight format.

    Args:
        comparison: those, and rows with a `reason` for what is unsupported: it is listed below the panels.
        pairs: {pair: {role: model}}.
    """
    measured = comparison["reason"].isna() if "reason" in comparison else pd.Series(True, comparison.index)
    # Rows without a budget have made decimals of the others'.
    rows = comparison[measured].astype({"budget": int})
    frame = with_optimisation(style.largest_load(style.with_roles(rows, pairs, several_servers=True)))
    several = frame["pair"].nunique() > 1

    def group(engine: str, dataset: str, pair: str) -> str:
        return ", ".join([style.ENGINES[engine], dataset, *[pair] * several])

    frame["group"] = [group(*key) for key in zip(frame["engine"], frame["dataset"], frame["pair"], strict=True)]
    groups = [group(*key) for key in product(style.engines(frame), _datasets(frame), style.ordered(frame["pair"]))]
    lines = list(frame["line"].unique())
    fixed = f"Ratio to the baseline, {style.describe_selection(frame)}"
    return forest(frame, METRICS, groups, lines, fixed, _unsupported(comparison[~measured], frame))


def with_optimisation(frame: pd.DataFrame) -> pd.DataFrame:
    """Add `line`, what a server has that the baseline has not: a weight format, a setup or both; setups first."""
    setup = frame["setup"].where(frame["setup"] != "baseline")
    weights = frame["quantization"].where(frame["quantization"] != "bf16")
    line = (weights + " + " + setup).fillna(weights).fillna(setup)
    return frame.assign(line=line).sort_values("quantization", key=lambda names: names != "bf16", kind="stable")


def _unsupported(missing: pd.DataFrame, measured: pd.DataFrame) -> str:
    """Name the servers that an experiment asks for and cannot have, a line an engine; empty where there are none.

    Args:
        missing: a row a server, with its keys.
        measured: rows of those that it has, with `line`; a line of some of the models names those that lack it.
    """
    if missing.empty:
        return ""
    missing = with_optimisation(missing).fillna({"line": "baseline"})
    texts = []
    for engine in style.engines(missing):
        names = []
        for line, rows in style.select(missing, engine=engine).groupby("line", sort=False):
            models = ", ".join(rows["model"].unique())
            partly = len(style.select(measured, engine=engine, line=line)) > 0
            names.append(f"{line} ({models})" if partly else str(line))
        texts.append(f"Not supported by {style.ENGINES[engine]}: {', '.join(names)}.")
    texts.append("The table of the optimisations has the reasons.")
    return "\n".join(textwrap.fill(text, NOTE_WIDTH) for text in texts)


def _datasets(comparison: pd.DataFrame) -> list[str]:
    return style.datasets(style.select(comparison, metric="output_tokens"), "value")
