"""What markers, axes and texts of figures say: that a figure is written shows none of it."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.study_fixtures import Study
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rllm_serving.report.figures import ratios, style
from rllm_serving.report.figures.forest import UNSURE, forest
from rllm_serving.report.figures.timeline import choose_point

PAIRS = {"tiny": {"llm": "m_llm", "rllm": "m_rllm"}}


def row(line: str, ratio: float, spread: float = np.nan, verdict: str | None = None, **columns: Any) -> dict[str, Any]:
    """A comparison of a metric; spread: factor between the ratio and either end of its interval."""
    values = {"ratio": ratio, "ratio_low": ratio / spread, "ratio_high": ratio * spread}
    values |= {f"difference{end}": values[f"ratio{end}"] - 1 for end in ("", "_low", "_high")}
    names = {
        "engine": "vllm",
        "group": "g",
        "line": line,
        "role": "llm",
        "metric": "tpot",
        "margin": 0.1,
        "invalid": None,
    }
    return {**names, **values, "verdict": verdict, **columns}


def draw(*rows: dict[str, Any], metric: str = "tpot") -> tuple[Figure, Axes]:
    frame = pd.DataFrame(rows)
    figure = forest(frame, [metric], ["g"], list(dict.fromkeys(frame["line"])), "")
    return figure, figure.axes[0]


def markers(ax: Axes) -> list[Any]:
    """The lines that hold the markers with intervals."""
    containers: list[Any] = list(ax.containers)
    return [container.lines[0] for container in containers]


def note(figure: Any) -> str:
    """What stands below the panels; Matplotlib has no other way to ask for it."""
    return figure._supxlabel.get_text() if figure._supxlabel else ""


def test_only_a_change_is_filled_and_what_was_not_judged_is_a_tick() -> None:
    figure, ax = draw(
        row("a", 2.0, 1.1, "changed"),
        row("b", 1.0, 1.05, "equivalent"),
        row("c", 1.1, 1.5, "undecided"),
        row("d", 3.0),
        row("e", 2.0, 1.1, invalid="late"),
    )
    looks = {}
    for line in markers(ax):
        for place in line.get_ydata():
            looks[round(place)] = (line.get_color(), line.get_markerfacecolor())
    blue = style.COLOURS["llm"]
    assert looks == {1: (blue, blue), 2: (blue, "white"), 3: (UNSURE, "white"), 5: (UNSURE, "white")}
    ticks: list[Any] = list(ax.lines)
    (tick,) = [line for line in ticks if line.get_marker() == "|" and line.get_markersize() == style.TICK["ms"]]
    assert [round(place) for place in tick.get_ydata()] == [4] and list(tick.get_xdata()) == [3.0]
    texts = {text.get_text() for text in figure.legends[0].get_texts()}
    expected = {"LLM", "changed", "equivalent", "undecided", "no interval, not judged", "beyond a validity gate"}
    assert texts == expected | {"changes that do not matter"}


def test_the_legend_names_only_what_is_there() -> None:
    figure, _ = draw(row("a", 2.0, 1.1, "changed", margin=np.nan))
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {"LLM", "changed"}


@pytest.mark.parametrize(("ratio", "spread"), [(1.0, 1.01), (0.3, 1.2), (4.0, 3.0), (30.0, 100.0)])
def test_the_axis_of_ratios_is_symmetric_around_1_and_hides_no_interval(ratio: float, spread: float) -> None:
    _, ax = draw(row("a", ratio, spread, "changed"))
    low, high = ax.get_xlim()
    assert low * high == pytest.approx(1) and low < ratio / spread and ratio * spread < high
    ticks = [tick for tick in ax.get_xticks() if low <= tick <= high]
    assert len(ticks) == 3 and ticks[1] == 1


def test_differences_are_in_points_around_0() -> None:
    _, ax = draw(row("a", 1.3, 1.1, "changed", metric="accuracy"), metric="accuracy")
    low, high = ax.get_xlim()
    assert low == -high and high > 43
    assert [list(line.get_xdata()) for line in markers(ax)] == [pytest.approx([30.0])]


def compared(engines: dict[str, list[str]], datasets: list[str]) -> pd.DataFrame:
    """Comparisons of setups with the baseline, a metric each, as the figure of optimisations takes them."""
    rows = []
    for engine, setups in engines.items():
        for setup, dataset, model in product(setups, datasets, ("m_llm", "m_rllm")):
            keys: dict[str, Any] = {
                "experiment": "e",
                "engine": engine,
                "model": model,
                "quantization": "bf16",
                "setup": setup,
            }
            keys |= {"against": f"{engine}/bf16/baseline", "dataset": dataset, "load": "closed-4", "load_level": 4}
            for metric in ("tpot", "output_tokens"):
                rows.append(row("", 1.2, 1.1, "changed", metric=metric) | keys | {"budget": 64, "value": 1.0})
    return pd.DataFrame(rows).drop(columns=["role", "line", "group"])


def test_what_an_engine_cannot_do_takes_no_line_and_is_listed_below() -> None:
    setups = [f"setup-{n}" for n in range(7)]
    frame = compared({"vllm": setups, "sglang": setups[:3]}, ["a", "b", "c"])
    keys = {"experiment": "e", "quantization": "bf16", "reason": "no kernel"}
    missing = [keys | {"engine": "sglang", "model": m, "setup": s} for m in ("m_llm", "m_rllm") for s in setups[3:]]
    missing.append(keys | {"engine": "vllm", "model": "m_llm", "setup": "fp4", "quantization": "fp4"})
    # One model's alone: the other one's line is there.
    missing.append(keys | {"engine": "vllm", "model": "m_llm", "setup": "setup-6"})
    figure = ratios.optimisations(pd.concat([frame, pd.DataFrame(missing)], ignore_index=True), PAIRS)
    texts = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    vllm, sglang = texts.index("vLLM, a"), texts.index("SGLang, a")
    assert texts[vllm + 1 : vllm + 8] == setups and texts[sglang + 1 : sglang + 4] == setups[:3]
    assert len(texts) == 3 * (8 + 4)
    text = note(figure)
    assert "Not supported by SGLang: setup-3, setup-4, setup-5, setup-6." in text
    assert "Not supported by vLLM: setup-6 (m_llm), fp4 + fp4." in text
    assert "budget 64 tokens" in figure.legends[0].get_title().get_text()
    assert figure.get_size_inches()[1] <= style.HEIGHT


def test_many_lines_are_set_closer_so_that_they_fit_a_page() -> None:
    setups = [f"setup-{n}" for n in range(9)]
    figure = ratios.optimisations(compared({"vllm": setups, "sglang": setups}, ["a", "b", "c"]), PAIRS)
    assert figure.get_size_inches()[1] <= style.HEIGHT
    assert note(figure) == ""


@pytest.mark.parametrize("values", [[0.11, 0.19], [0.3, 0.3], [0.02, 40.0]])
def test_a_logarithmic_axis_has_numbers_and_shows_all(values: list[float]) -> None:
    ax = Figure().subplots()
    ax.plot([0, 1], values)
    style.log10_axis(ax, pd.Series(values))
    low, high = ax.get_ylim()
    assert low <= min(values) and max(values) <= high
    assert len([tick for tick in ax.get_yticks() if low <= tick <= high]) >= 2


def test_the_legend_says_where_there_are_no_bars() -> None:
    frame = pd.DataFrame({"x": [1.0, np.nan], "x_low": [0.9, np.nan]})
    assert style.bar_text(frame, ["x"]) == style.BARS
    assert style.bar_text(frame.assign(x=1.0), ["x"]) == f"{style.BARS}, where one is known"


def test_a_timeline_shows_the_hardest_points_that_have_enough_samples(plain: Study) -> None:
    points = style.largest_load(style.with_roles(plain.points, plain.pairs))
    hardest = style.datasets(points)[-1]
    assert choose_point(points)[0] == hardest
    of_hardest = points["dataset"] == hardest
    more = points.assign(gauge_samples=np.where(of_hardest & (points["repeat"] == 1), 40, 25))
    assert choose_point(more) == (hardest, 1)
    few = points.assign(gauge_samples=np.where(of_hardest, 19, 25))
    assert choose_point(few) == (style.datasets(points)[-2], 0)
    late = more.assign(invalid=pd.Series("late", points.index).where(of_hardest & (points["repeat"] == 1)))
    assert choose_point(late) == (hardest, 0)
    # Where all are too short, the hardest dataset's are shown, and the figure says how few samples there were.
    assert choose_point(points.assign(gauge_samples=3)) == (hardest, 0)
