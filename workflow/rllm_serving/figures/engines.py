"""Figure: each engine against the first one at equal load, as ratios with paired intervals."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from . import style

METRICS = {
    "accuracy": "Accuracy",
    "tps": "Throughput",
    "ttfvt": "TTFVT",
    "tpot": "TPOT",
    "e2e": "E2E",
    "kv": "KV use",
}


@style.styled
def draw(versus: pd.DataFrame, pairs: style.Pairs, pdf: Path | str, png: Path | str) -> None:
    """Columns are metrics, rows the compared engines (once a pair); in a panel a line a dataset and load.

    versus: rows of `compare.compare` of one experiment; shown at the largest budget. A ratio of 1 is the grey line; a
    hollow marker has an interval that holds 1.
    """
    frame = style.roles(versus, pairs)
    frame = frame[frame["budget"] == frame["budget"].max()]
    length = style.pick(frame, metric="output_tokens").groupby("dataset")["value"].max().sort_values()
    datasets = style.ordered(frame["dataset"], length.index)
    loads = frame[["load", "load_size"]].drop_duplicates().sort_values("load_size")["load"].tolist()
    lines = [(dataset, load) for dataset in datasets for load in loads]
    rows = sorted(set(zip(frame["engine"], frame["against"], frame["pair"], strict=True)))
    height = 0.5 + 0.22 * len(lines)
    fig, axes = style.figure(len(rows), len(METRICS), height, sharey=True)
    for r, (engine, against, pair) in enumerate(rows):
        for c, (metric, label) in enumerate(METRICS.items()):
            ax, panel = axes[r, c], style.pick(frame, engine=engine, pair=pair, metric=metric)
            ax.axvline(1, color=style.GREY, lw=0.8, zorder=1)
            for role, shift in (("llm", -0.15), ("rllm", 0.15)):
                mine = style.pick(panel, role=role)
                y = [lines.index(key) + shift for key in zip(mine["dataset"], mine["load"], strict=True)]
                colour, marker, spread = style.COLOURS[role], style.MARKERS[role], style.error(mine, "ratio")
                ax.errorbar(mine["ratio"], y, xerr=spread, color=colour, ls="", capsize=1.5, elinewidth=0.8)
                holds = ((mine["ratio_low"] <= 1) & (mine["ratio_high"] >= 1)).to_numpy()
                for chosen, face in ((~holds, colour), (holds, "white")):
                    at = mine["ratio"].to_numpy()[chosen], [v for v, take in zip(y, chosen, strict=True) if take]
                    ax.plot(*at, marker, color=colour, mfc=face, zorder=3)
            if not (panel["ratio"] > 0).any():
                style.nothing(ax)
            else:
                ax.set_xscale("log")
                ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
                ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
                ax.xaxis.set_minor_locator(NullLocator())
                low, high = panel["ratio"][panel["ratio"] > 0].min(), panel["ratio"].max()
                ax.set_xlim(min(low / 1.5, 0.5), max(high * 1.5, 2))
            ax.grid(axis="y", visible=False)
            ax.set_title(label)
        name, other = style.engine_name(engine), style.engine_name(against.split("/")[0])
        axes[r, 0].set_ylabel(f"{name} / {other}" + (f"\n{pair}" if len({row[2] for row in rows}) > 1 else ""))
        shown = [dataset if len(loads) == 1 else f"{dataset}, {load}" for dataset, load in lines]
        axes[r, 0].set_yticks(range(len(lines)), shown)
        axes[r, 0].set_ylim(len(lines) - 0.5, -0.5)
    same = Line2D([], [], color=style.GREY, marker="D", mfc="white", ls="", label="interval holds 1")
    style.legend(fig, [*style.handles([]), same], f"Ratio at equal load, budget {frame['budget'].iloc[0]} tokens")
    style.save(fig, pdf, png)
