"""The look that all figures share, and the few moves that they have in common.

A figure shows one experiment. Colour and marker tell LLM from RLLM, line style or panel the engines, rows
the pairs. Colours are Okabe and Ito's, which the colour-blind tell apart; in grey the markers do. Error bars
are the 95 % intervals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ParamSpec

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator
from numpy.typing import NDArray

from ...serving.engines import ENGINES as engine_classes

P = ParamSpec("P")
Pairs = dict[str, dict[str, str]]

WIDTH = 7.0  # inches: two columns of a printed page
ROLES = {"llm": "LLM", "rllm": "RLLM"}
COLOURS = {"llm": "#0072B2", "rllm": "#D55E00"}
MARKERS = {"llm": "o", "rllm": "s"}
ENGINES = {engine.name: engine.title for engine in engine_classes.values()}
GREY = "#555555"
LINES: list[Any] = ["-", (0, (4, 1.5)), (0, (1, 1))]
RC: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "legend.fontsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "hatch.linewidth": 0.5,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "figure.constrained_layout.use": True,
}


def styled(draw: Callable[P, None]) -> Callable[P, None]:
    """Decorator: draw and save a figure in this style."""
    return rc_context(RC)(draw)


def figure(rows: int, columns: int, height: float, **options: Any) -> tuple[Figure, Any]:
    """A figure of rows x columns panels, `height` inches a row; the panels have shape (rows, columns)."""
    fig = Figure(figsize=(WIDTH, height * rows + 0.6))
    return fig, fig.subplots(rows, columns, squeeze=False, **options)


def save(fig: Figure, pdf: Path | str, png: Path | str) -> None:
    """Write both files, without dates or versions: the same data give the same bytes."""
    fig.savefig(pdf, format="pdf", metadata={"CreationDate": None, "Producer": None, "Creator": None})
    fig.savefig(png, format="png", dpi=200, metadata={"Software": None})


def roles(frame: pd.DataFrame, pairs: Pairs, several: bool = False) -> pd.DataFrame:
    """The rows of models that belong to a pair, with columns `pair` and `role` ("llm" or "rllm").

    A model of several pairs appears once for each. ValueError when nothing is left, or when the frame mixes
    experiments, weight formats or setups, which the figure could not tell apart; `several`: it can tell the latter.
    """
    for name in ("experiment",) if several else ("experiment", "quantization", "setup"):
        if len(set(frame[name])) > 1:
            raise ValueError(f"figure of several values of {name}: {sorted(set(frame[name]))}; pass one")
    known = [(pair, role, model) for pair, models in pairs.items() for role, model in models.items()]
    result: pd.DataFrame = frame.merge(pd.DataFrame(known, columns=["pair", "role", "model"]), on="model")
    if result.empty:
        raise ValueError(f"none of the pairs' models {sorted({k[2] for k in known})} was measured here")
    return result


def ordered(names: Iterable[str], like: Iterable[str]) -> list[str]:
    """The different names, in the order of `like` first, then sorted."""
    names, order = set(names), list(like)
    return [name for name in order if name in names] + sorted(names.difference(order))


def select(frame: pd.DataFrame, **values: object) -> pd.DataFrame:
    """The rows that have these values in the columns of these names."""
    return frame[(frame[list(values)] == list(values.values())).all(axis=1)]


def engine_name(engine: str) -> str:
    """How its makers write it."""
    return ENGINES.get(engine, engine)


def series(names: list[str]) -> list[tuple[str, str, Any, float]]:
    """role, engine, line style and factor on a log2 x axis that sets the error bars of the series apart."""
    both = [(role, engine, line) for role in ROLES for engine, line in zip(names, LINES, strict=False)]
    return [(*one, 2 ** (0.09 * (k - (len(both) - 1) / 2))) for k, one in enumerate(both)]


def engines(frame: pd.DataFrame) -> list[str]:
    """The engines of a frame, always in the same order."""
    return ordered(frame["engine"], ENGINES)


def by_length(frame: pd.DataFrame) -> list[str]:
    """Datasets from short to long RLLM outputs at the largest budget, the measure of how hard a set is."""
    most = frame[frame["budget"] == frame["budget"].max()]
    thinking = most[most["role"] == "rllm"]
    length = (most if thinking.empty else thinking).groupby("dataset")["output_tokens_mean"].mean()
    return ordered(frame["dataset"], length.sort_values(na_position="first").index)


def largest_load(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows at the largest load and, of these, at the largest token budget."""
    frame = frame[frame["load_level"] == frame["load_level"].max()]
    result: pd.DataFrame = frame[frame["budget"] == frame["budget"].max()]
    return result


def describe_selection(frame: pd.DataFrame) -> str:
    """What `largest` chose, in words."""
    return f"load {frame['load'].iloc[0]}, budget {frame['budget'].iloc[0]} tokens"


def error(frame: pd.DataFrame, metric: str, scale: float = 1.0) -> NDArray[np.float64]:
    """Distances from value to interval ends, shape (2, n); NaN where there is no interval."""
    value = frame[metric].to_numpy(dtype=float)
    low, high = (frame[f"{metric}_{end}"].to_numpy(dtype=float) for end in ("low", "high"))
    distance: NDArray[np.float64] = np.maximum(np.stack([value - low, high - value]), 0) * scale
    return distance


def annotate_empty(ax: Axes) -> None:
    """Say in an empty panel that it is empty, instead of leaving the reader to wonder."""
    ax.text(0.5, 0.5, "no data", transform=ax.transAxes, ha="center", va="center", color="#777777")


def log2_axis(ax: Axes, values: Iterable[float]) -> None:
    """Log2 x axis with ticks at the measured values only, every second one labelled when they are many."""
    ticks = sorted(set(values))
    labelled = ticks[::-1][:: 1 if len(ticks) <= 4 else 2 if len(ticks) <= 6 else 3][::-1]
    ax.set_xscale("log", base=2)
    ax.set_xlim(ticks[0] / 1.3, ticks[-1] * 1.3)
    ax.xaxis.set_major_locator(FixedLocator(labelled))
    ax.xaxis.set_minor_locator(FixedLocator(ticks) if len(ticks) > len(labelled) else NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1024:g}k" if x >= 1024 else f"{x:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())


def log10_axis(ax: Axes, values: pd.Series) -> None:
    """Log10 y axis with plain numbers at 1, 3, 10, ...; without ticks when no value is above 0."""
    if not (values > 0).any():
        ax.set_yticks([])
        return
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    ax.yaxis.set_minor_locator(NullLocator())


def legend_handles(engines: list[str]) -> list[Line2D]:
    """Legend entries for LLM and RLLM and, when there are several, for the engines' line styles."""
    entries = [
        Line2D([], [], color=COLOURS[role], marker=MARKERS[role], linestyle="", label=label)
        for role, label in ROLES.items()
    ]
    lines = zip(engines, LINES, strict=False) if len(engines) > 1 else ()
    return entries + [Line2D([], [], color=GREY, linestyle=line, label=engine_name(e)) for e, line in lines]


def mark_invalid(ax: Axes, x: Iterable[float], y: Iterable[float], rows: pd.DataFrame, role: str) -> None:
    """Draw the markers of rows that are beyond a validity gate anew, hollow; x, y: their places, a row each."""
    beyond = rows["invalid"].notna().to_numpy()
    at, value = (np.asarray(list(places), dtype=float)[beyond] for places in (x, y))
    ax.plot(at, value, MARKERS[role], color=COLOURS[role], mfc="white", ls="", zorder=4)


CROSS: dict[str, Any] = {"color": "black", "marker": "x", "ms": 7, "ls": "", "zorder": 5}
"""Look of the mark on comparisons that are beyond a validity gate, where hollow has another meaning."""


def invalid(frame: pd.DataFrame, **look: Any) -> list[Line2D]:
    """Legend entry for what is beyond a validity gate, hollow markers unless said otherwise, when a frame has any."""
    if frame["invalid"].isna().all():
        return []
    look = look or {"color": GREY, "marker": "D", "mfc": "white", "ls": ""}
    return [Line2D([], [], label="beyond a validity gate", **look)]


ENTRIES = 5
"""Legend entries that a row has room for."""


def legend(fig: Figure, entries: Sequence[Artist], fixed: str, bars: str = "; bars: 95 % intervals") -> None:
    """A legend above all panels, where it hides nothing; fixed: what all panels have in common."""
    columns = len(entries) if len(entries) <= ENTRIES else -(-len(entries) // 2)
    fig.legend(handles=entries, loc="outside upper center", title=fixed + bars, ncols=columns, columnspacing=1.4)
