"""The rows that the client's benchmark tells: their table and their figure."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from rllm_serving.report.figures import style

OURS = "ours"
COMPARED = 1000  # events a stream where the clients are compared: vLLM's drops requests of more than 2048 tokens
BURST = 100  # requests at once


@dataclass(frozen=True)
class Row:
    """One number: reached is None where there is no target, value where there is no number; note says why."""

    what: str
    client: str
    value: float | None
    target: str = ""
    reached: bool | None = None
    note: str = ""


class Rows(list[Row]):
    """Our client's rows."""

    def judge(self, what: str, value: float, unit: str, limit: float | None = None, note: str = "") -> float:
        """Add a row, judged by its limit if it has one; returns the value."""
        target = "" if limit is None else f"<= {limit:g} {unit}"
        self.append(Row(f"{what} ({unit})", OURS, value, target, None if limit is None else value <= limit, note))
        return value


def table(rows: Sequence[Row]) -> str:
    """The rows as text."""
    cells = [("what", "client", "value", "target", "reached", "note")]
    for row in rows:
        value = "none" if row.value is None else f"{row.value:,.2f}"
        cells.append(
            (row.what, row.client, value, row.target, {True: "yes", False: "NO", None: ""}[row.reached], row.note)
        )
    widths = [max(len(line[k]) for line in cells) for k in range(5)]
    return "\n".join("  ".join((*(c.ljust(w) for c, w in zip(line, widths, strict=False)), line[5])) for line in cells)


def draw(rows: Sequence[Row], found: dict[str, Any], path: Path) -> None:
    """CPU per event by client and by length, and the TTFT error of a burst by client; log scales."""
    with rc_context(style.RC):
        figure = Figure(figsize=(style.WIDTH, 2.8))
        panels = figure.subplots(1, 3)
        by_client, burst, by_length = panels
        for axes, what, title in (
            (by_client, f"CPU per event, streams of {COMPARED} (us)", "CPU per event (µs)"),
            (burst, f"TTFT error, burst of {BURST}, worst (ms)", f"TTFT error, burst of {BURST} (ms)"),
        ):
            shown = [row for row in rows if row.what == what and row.value is not None][::-1]
            colours = [style.COLOURS["llm"] if row.client == OURS else style.GREY for row in shown]
            bars = axes.barh(
                [row.client.rpartition(" ")[0] or OURS for row in shown], [r.value for r in shown], color=colours
            )
            axes.bar_label(bars, fmt="%.1f", padding=2)
            axes.set(title=title, xscale="log")
            axes.margins(x=0.4)
        burst.set_yticklabels([])  # the same clients in the same order
        lengths = sorted(found["lengths"])
        receiving, decoding, _ = np.array([found["lengths"][events] for events in lengths]).T
        by_length.plot(lengths, receiving + decoding, "o-", label="in all")
        by_length.plot(lengths, receiving, "s--", label="receiving")
        by_length.plot(lengths, decoding, "^:", label="decoding")
        by_length.set(title="ours, by events a stream (µs)", xscale="log", ylim=(0, None))
        by_length.legend(loc="center")
        figure.savefig(path, dpi=200)
