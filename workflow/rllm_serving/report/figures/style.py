"""What all figures share: colours and markers, selections and orders, intervals, axes and the legend.

A figure shows one experiment. Colour and marker tell LLM from RLLM; line style or panel the engine; blocks of rows the
pairs. The colours are those of Okabe and Ito, safe for colour-blind readers; in grey the markers tell them apart.
Error bars are 95 % intervals.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import cycle, product
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator
from numpy.typing import NDArray

from ...analysis.metrics import REGISTRY
from ...serving.engines import ENGINES as engine_classes

Pairs = dict[str, dict[str, str]]
"""{pair: {role: model}}"""

WIDTH, HEIGHT = 7.0, 9.5  # inches: two columns of a printed page, without a caption
THICK, THIN = 0.2, 0.125  # inches: a line of text and markers, as it should be and as it can be
ROLES = {"llm": "LLM", "rllm": "RLLM"}
COLOURS = {"llm": "#0072B2", "rllm": "#D55E00"}
MARKERS = {"llm": "o", "rllm": "s"}
DERIVED_MARKERS = {"llm": "+", "rllm": "x"}
"""Of values that were not measured under that budget, but cut from answers under a larger one."""
SHIFTS = {"llm": -0.13, "rllm": 0.13}
"""Distance of a role's marker from its group's place on an axis of groups."""


class _Titles(dict[str, str]):
    """Engine -> its title; of one that the workflow does not start, a server that already runs, its name."""

    def __missing__(self, engine: str) -> str:
        return f"{engine} (not controlled)"


ENGINES = _Titles({engine.name: engine.title for engine in engine_classes.values()})
LINES: list[Any] = ["-", (0, (4, 1.5)), (0, (1, 1)), (0, (6, 1, 1, 1)), (0, (3, 1, 1, 1, 1, 1))]
GREY = "#555555"
HOLLOW: dict[str, Any] = {"color": GREY, "marker": "D", "mfc": "white", "ls": ""}
TICK: dict[str, Any] = {"marker": "|", "ms": 7, "mew": 1.2, "ls": "", "zorder": 4}
"""Mark of a value without an interval among such that are judged by theirs."""
CROSS: dict[str, Any] = {"color": "black", "marker": "x", "ms": 7, "ls": "", "zorder": 5}
"""Mark of comparisons beyond a validity gate, where a hollow marker has another meaning."""
LEGEND_COLUMNS = 5
BARS = "; bars: 95 % intervals"
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


def label(metric: str) -> str:
    """Return a metric's name and display unit."""
    return REGISTRY[metric].title


def factor(metric: str) -> float:
    """Return display units per stored unit of a metric; 1 for other columns."""
    return REGISTRY[metric].factor if metric in REGISTRY else 1.0


def with_roles(frame: pd.DataFrame, pairs: Pairs, several_servers: bool = False) -> pd.DataFrame:
    """Return the rows of models that belong to a pair, with columns `pair` and `role` ("llm" or "rllm").

    Args:
        frame: rows with the server's keys; those of a model of several pairs are repeated for each.
        pairs: {pair: {role: model}}.
        several_servers: the figure tells weight formats and setups apart.

    Raises:
        ValueError: nothing is left, or the frame mixes what the figure cannot tell apart.
    """
    for name in ("experiment",) if several_servers else ("experiment", "quantization", "setup"):
        if len(set(frame[name])) > 1:
            raise ValueError(f"figure of several values of {name}: {sorted(set(frame[name]))}; pass one")
    models = [(pair, role, model) for pair, roles in pairs.items() for role, model in roles.items()]
    result: pd.DataFrame = frame.merge(pd.DataFrame(models, columns=["pair", "role", "model"]), on="model")
    if result.empty:
        raise ValueError(f"none of the pairs' models {sorted({model for *_, model in models})} was measured here")
    return result


def select(frame: pd.DataFrame, **values: object) -> pd.DataFrame:
    """Return the rows that have these values in the columns of these names."""
    return frame[(frame[list(values)] == list(values.values())).all(axis=1)]


def largest(frame: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Return the rows with the largest value of the first column, of these those of the second, and so on."""
    for column in columns:
        frame = frame[frame[column] == frame[column].max()]
    return frame


def largest_load(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows at the largest load and, of these, at the largest token budget."""
    return largest(frame, "load_level", "budget")


def describe_selection(frame: pd.DataFrame) -> str:
    """Say which load and budget `largest_load` selected."""
    return f"load {frame['load'].iloc[0]}, budget {frame['budget'].iloc[0]} tokens"


def ordered(names: Iterable[str], like: Iterable[str] = ()) -> list[str]:
    """Return the distinct names: those of `like` in its order, then the others sorted."""
    distinct, order = set(names), list(like)
    return [name for name in order if name in distinct] + sorted(distinct.difference(order))


def engines(frame: pd.DataFrame) -> list[str]:
    """Return the engines of a frame, in the same order in every figure."""
    return ordered(frame["engine"], ENGINES)


def datasets(frame: pd.DataFrame, length: str = "output_tokens_mean") -> list[str]:
    """Return the datasets from easy to hard: from short to long RLLM outputs at the largest budget.

    Args:
        frame: rows with pair and role.
        length: column that measures the outputs' length.
    """
    longest = largest(frame, "budget")
    thinking = select(longest, role="rllm")
    lengths = (longest if thinking.empty else thinking).groupby("dataset")[length].mean()
    return ordered(frame["dataset"], lengths.sort_values(na_position="first").index)


def with_positions(frame: pd.DataFrame, by: str, order: Sequence[str] = ()) -> tuple[pd.DataFrame, list[Any]]:
    """Number the groups of a frame along an axis.

    Args:
        frame: rows with pair and role.
        by: column that, with the dataset, makes a group.
        order: order of its values.

    Returns:
        The frame with a column `position`, where roles stand side by side, and the groups (value, dataset) in order.
    """
    keys = list(zip(frame[by], frame["dataset"], strict=True))
    groups = [group for group in product(ordered(frame[by], order), datasets(frame)) if group in set(keys)]
    return frame.assign(position=[groups.index(key) for key in keys] + frame["role"].map(SHIFTS)), groups


def by_role(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return the roles that a frame has and the rows of each."""
    return [(role, select(frame, role=role)) for role in ordered(frame["role"], ROLES)]


def series(frame: pd.DataFrame) -> list[tuple[str, str, Any, float]]:
    """Return role, engine, line style and offset of each series; offsets are in steps and centred on 0."""
    lines = zip(engines(frame), cycle(LINES), strict=False)
    combinations = list(product(ordered(frame["role"], ROLES), lines))
    middle = (len(combinations) - 1) / 2
    return [(role, engine, line, number - middle) for number, (role, (engine, line)) in enumerate(combinations)]


def error_bars(frame: pd.DataFrame, metric: str) -> NDArray[np.float64]:
    """Return the distances from value to interval ends, shape (2, n); NaN where there is no interval."""
    value, low, high = (frame[metric + end].to_numpy(dtype=float) for end in ("", "_low", "_high"))
    distances: NDArray[np.float64] = np.maximum(np.stack([value - low, high - value]), 0)
    return distances


def intervals(
    ax: Axes,
    frame: pd.DataFrame,
    metric: str,
    position: pd.Series,
    horizontal: bool = False,
    **line: Any,
) -> None:
    """Draw a metric's values with intervals in the colours and markers of the roles.

    Markers are hollow beyond a validity gate, and crosses where the value was derived (see DERIVED_MARKERS).

    Args:
        ax: panel.
        frame: rows with a role.
        metric: column of `frame`, with _low and _high.
        position: of each row on the other axis.
        horizontal: the metric is on the x axis.
        line: properties of the line.
    """
    for role, rows in by_role(frame):
        value, at = rows[metric] * factor(metric), position[rows.index]
        x, y = (value, at) if horizontal else (at, value)
        error = {"xerr" if horizontal else "yerr": error_bars(rows, metric) * factor(metric)}
        look: dict[str, Any] = {"color": COLOURS[role], "ls": "", "capsize": 1.5, "elinewidth": 0.8}
        ax.errorbar(x, y, **(look | error | line))
        mark = rows["invalid"].notna()
        derived = rows["derived_from"].notna()
        for chosen, face in ((~mark & ~derived, COLOURS[role]), (mark, "white")):
            ax.plot(x[chosen], y[chosen], MARKERS[role], color=COLOURS[role], mfc=face, zorder=3)
        ax.plot(x[derived], y[derived], DERIVED_MARKERS[role], color=COLOURS[role], zorder=4, ls="", mew=1.4)


def line_height(lines: int, around: float) -> float:
    """Return the height of a line (inches) with which a figure fits a page, as far as its text stays legible.

    Args:
        lines: of text and markers, one below the other.
        around: height of all else, inches.
    """
    return min(THICK, max(THIN, (HEIGHT - around) / max(lines, 1)))


def annotate_empty(ax: Axes, values: pd.Series) -> None:
    """Write "no data" into a panel without values."""
    if values.isna().all():
        ax.text(0.5, 0.5, "no data", transform=ax.transAxes, ha="center", va="center", color="#777777")


def log2_axis(ax: Axes, values: Iterable[float]) -> None:
    """Make the x axis log2 with ticks at the measured values only; of many not every one is labelled."""
    ticks = sorted(set(values))
    labelled = ticks[::-1][:: 1 if len(ticks) <= 4 else 2 if len(ticks) <= 6 else 3][::-1]
    ax.set_xscale("log", base=2)
    ax.set_xlim(ticks[0] / 1.3, ticks[-1] * 1.3)
    ax.xaxis.set_major_locator(FixedLocator(labelled))
    ax.xaxis.set_minor_locator(FixedLocator(ticks) if len(ticks) > len(labelled) else NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1024:g}k" if x >= 1024 else f"{x:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())


def log10_axis(ax: Axes, values: pd.Series, which: Literal["x", "y"] = "y") -> None:
    """Make an axis log10 with plain numbers, at least two of them; without ticks when no value is above 0.

    Args:
        ax: panel in which all is drawn, and all of which stays visible.
        values: what it shows.
        which: axis.
    """
    if not (values > 0).any():
        ax.set(**{f"{which}ticks": []})
        return
    ax.set(**{f"{which}scale": "log"})
    low, high = ax.get_ylim() if which == "y" else ax.get_xlim()
    subs = (1, 2, 5) if high / low < 15 else (1, 3)
    steps = [sub * 10.0**k for k in range(int(np.log10(low)) - 2, int(np.log10(high)) + 3) for sub in subs]
    if sum(low <= step <= high for step in steps) < 2:
        low, high = max(step for step in steps if step <= low), min(step for step in steps if step >= high)
    ax.set(**{f"{which}lim": (low, high)})
    axis = ax.yaxis if which == "y" else ax.xaxis
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def legend_handles(frame: pd.DataFrame, with_engines: bool = False) -> list[Line2D]:
    """Return legend entries for LLM and RLLM and, where line styles tell them apart, for several engines."""
    entries = [
        Line2D([], [], color=COLOURS[role], marker=MARKERS[role], linestyle="", label=ROLES[role])
        for role in ordered(frame["role"], ROLES)
    ]
    names = engines(frame)
    lines = list(zip(names, cycle(LINES), strict=False)) if with_engines and len(names) > 1 else []
    if not lines:
        # No line style names these; that nobody controls them is said all the same.
        lines = [(name, "") for name in names if name not in ENGINES]
    return entries + [Line2D([], [], color=GREY, linestyle=line, label=ENGINES[engine]) for engine, line in lines]


def invalid_handles(frame: pd.DataFrame, mark: dict[str, Any] = HOLLOW) -> list[Line2D]:
    """Return the legend entry for invalid points or comparisons; [] if there are none."""
    return [Line2D([], [], label="beyond a validity gate", **mark)] if frame["invalid"].notna().any() else []


def derived_handles(frame: pd.DataFrame) -> list[Line2D]:
    """Return the legend entry for derived budgets; [] if there are none."""
    if frame["derived_from"].isna().all():
        return []
    text = "derived: cut from answers under a larger budget"
    return [Line2D([], [], color=GREY, marker=r"$+\times$", ms=11, mew=0.6, ls="", label=text)]


def bar_text(frame: pd.DataFrame, metrics: Iterable[str]) -> str:
    """Say for a legend what bars are, and that some values have none.

    Args:
        frame: what a figure shows.
        metrics: columns of `frame` with _low and _high.
    """
    bare = any((frame[name].notna() & frame[f"{name}_low"].isna()).any() for name in metrics)
    return f"{BARS}, where one is known" if bare else BARS


def legend(figure: Figure, entries: Sequence[Artist], fixed: str, bars: str = BARS) -> None:
    """Put a legend above all panels, where it hides nothing; fixed: what all panels have in common."""
    columns = len(entries) if len(entries) <= LEGEND_COLUMNS else -(-len(entries) // 2)
    figure.legend(handles=entries, loc="outside upper center", title=fixed + bars, ncols=columns, columnspacing=1.4)
