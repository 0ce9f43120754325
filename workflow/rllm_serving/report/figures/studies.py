"""Figure: what changed from an older study to this one, as ratios with intervals."""

from __future__ import annotations

from itertools import product

import pandas as pd
from matplotlib.figure import Figure

from . import style
from .forest import forest
from .ratios import METRICS, with_optimisation


def studies(comparison: pd.DataFrame, pairs: style.Pairs) -> Figure:
    """Draw rows of `studies.compare`, each experiment at its largest load and budget; a line a server and dataset."""
    models = [model for roles in pairs.values() for model in roles.values()]
    of_pairs = comparison[comparison["model"].isin(models)]
    if of_pairs.empty:
        return _nothing()
    parts = [
        style.largest_load(style.with_roles(part, pairs, several_servers=True))
        for _, part in of_pairs.groupby("experiment", sort=False)
    ]
    frame = with_optimisation(pd.concat(parts, ignore_index=True)).fillna({"line": ""})
    several = frame["pair"].nunique() > 1

    def group(experiment: str, engine: str, pair: str) -> str:
        return ", ".join([experiment, style.ENGINES[engine], *[pair] * several])

    def line(dataset: str, optimisation: str) -> str:
        return f"{dataset}, {optimisation}" if optimisation else dataset

    frame["group"] = [group(*key) for key in zip(frame["experiment"], frame["engine"], frame["pair"], strict=True)]
    order = (frame["experiment"].unique(), style.engines(frame), style.ordered(frame["pair"]))
    optimisations = style.ordered(frame["line"].unique(), [""])
    datasets = style.ordered(frame["dataset"], style.datasets(style.select(frame, metric="output_tokens"), "now"))
    lines = [line(*key) for key in product(datasets, optimisations)]
    frame["line"] = [line(*key) for key in zip(frame["dataset"], frame["line"], strict=True)]
    fixed = "Now / then, each experiment at its largest load and token budget"
    return forest(frame, METRICS, [group(*key) for key in product(*order)], lines, fixed)


def _nothing() -> Figure:
    figure = Figure(figsize=(style.WIDTH, 1.0))
    figure.text(0.5, 0.5, "The two studies have nothing that may be compared", ha="center", va="center")
    return figure
