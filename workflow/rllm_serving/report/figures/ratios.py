"""Figures: changes from baseline to candidate with intervals, for engines and for optimisations (C7 to C10)."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ...analysis.metrics import REGISTRY
from ...analysis.verdicts import UNDECIDED
from . import style
from .facet import Facet, facet, pair_blocks

ENDS = ("", "_low", "_high")
METRICS = ["accuracy", "output_throughput", "ttfvt", "tpot", "e2e_latency", "kv_cache_usage"]


def engines(comparison: pd.DataFrame, pairs: style.Pairs) -> Figure:
    """Draw baseline servers of `comparison.compare`, each engine against the first; a line a dataset and load."""
    frame = style.select(comparison, setup="baseline", quantization="bf16")
    frame = style.largest(style.with_roles(frame, pairs), "budget").sort_values("load_level")
    frame["line"] = frame["dataset"] + ", " + frame["load"] if frame["load"].nunique() > 1 else frame["dataset"]
    lines = [line for name in _datasets(frame) for line in style.select(frame, dataset=name)["line"].unique()]
    baseline = frame["against"].str.split("/").str[0]
    frame["engines"] = frame["engine"].map(style.ENGINES) + " / " + baseline.map(style.ENGINES)
    rows = [
        Facet({"engines": names, "pair": pair}, f"{names}\n{block}".strip())
        for names, (pair, block) in product(style.ordered(frame["engines"]), pair_blocks(frame))
    ]
    return _ratios(frame, rows, lines, f"Ratio at equal load, budget {frame['budget'].iloc[0]} tokens")


def optimisations(comparison: pd.DataFrame, pairs: style.Pairs) -> Figure:
    """Draw rows of `comparison.compare` with the baseline; a line a setup or weight format."""
    frame = with_optimisation(style.largest_load(style.with_roles(comparison, pairs, several_servers=True)))
    rows = [
        Facet({"engine": engine, "dataset": name, "pair": pair}, f"{style.ENGINES[engine]}\n{name}\n{block}".strip())
        for engine, name, (pair, block) in product(style.engines(frame), _datasets(frame), pair_blocks(frame))
    ]
    lines = list(frame["line"].unique())
    return _ratios(frame, rows, lines, f"Ratio to the baseline, {style.describe_selection(frame)}")


def with_optimisation(frame: pd.DataFrame) -> pd.DataFrame:
    """Add `line`, what a server has that the baseline has not: a weight format, a setup or both; setups first."""
    setup = frame["setup"].where(frame["setup"] != "baseline")
    weights = frame["quantization"].where(frame["quantization"] != "bf16")
    line = (weights + " + " + setup).fillna(weights).fillna(setup)
    return frame.assign(line=line).sort_values("quantization", key=lambda names: names != "bf16", kind="stable")


def _datasets(comparison: pd.DataFrame) -> list[str]:
    return style.datasets(style.select(comparison, metric="output_tokens"), "value")


def _ratios(frame: pd.DataFrame, rows: list[Facet], lines: list[str], fixed: str) -> Figure:
    """Draw ratios, of accuracy differences in points; a column a metric.

    Args:
        frame: rows of `comparison.compare` with a role and `line`.
        rows: of the grid.
        lines: values of `line`, from top to bottom of a panel.
        fixed: what all panels have in common.
    """
    frame = frame.assign(position=frame["line"].map(lines.index) + frame["role"].map(style.SHIFTS))
    points = frame["metric"] == "accuracy"
    frame = frame.assign(
        **{f"shown{end}": frame[f"ratio{end}"].mask(points, 100 * frame[f"difference{end}"]) for end in ENDS}
    )
    frame = frame[points | (frame["shown"] > 0)]
    undecided = frame["verdict"] == UNDECIDED

    def panel(ax: Axes, part: pd.DataFrame, _: Facet) -> None:
        differs = bool((part["metric"] == "accuracy").any())
        ax.axvline(0 if differs else 1, color=style.GREY, lw=0.8, zorder=1)
        for margin in part["margin"].dropna().unique():
            ends = (-100 * margin, 100 * margin) if differs else (np.exp(-margin), np.exp(margin))
            ax.axvspan(*ends, color=style.GREY, alpha=0.15, lw=0, zorder=0)
        style.intervals(ax, part, "shown", part["position"], horizontal=True, hollow=undecided)
        invalid = part[part["invalid"].notna()]
        ax.plot(invalid["shown"], invalid["position"], **style.CROSS)
        style.annotate_empty(ax, part["shown"])
        ax.set_yticks(range(len(lines)), lines)
        ax.set_ylim(len(lines) - 0.5, -0.5)
        ax.grid(axis="y", visible=False)

    labels = {"accuracy": "Accuracy\ndifference (points)"}
    columns = [Facet({"metric": name}, labels.get(name, REGISTRY[name].label)) for name in METRICS]
    figure = facet(frame, rows, columns, panel, 0.5 + 0.2 * len(lines), sharex="col", sharey=True)
    for ax, metric in zip(figure.axes, METRICS, strict=False):
        if metric == "accuracy":
            continue
        ratios = style.select(frame, metric=metric)[[f"shown{end}" for end in ENDS]].to_numpy(dtype=float)
        ratios = ratios[ratios > 0]
        limits = pd.Series([*ratios / 1.2, 0.5, 2, *ratios * 1.2])
        style.log10_axis(ax, limits, "x")
        ax.set_xlim(limits.min(), limits.max())
    undecided_handle = Line2D([], [], label="undecided", **style.HOLLOW)
    margin_handle = Patch(color=style.GREY, alpha=0.15, lw=0, label="changes that do not matter")
    entries = [
        *style.legend_handles(frame),
        undecided_handle,
        margin_handle,
        *style.invalid_handles(frame, style.CROSS),
    ]
    style.legend(figure, entries, fixed)
    return figure
