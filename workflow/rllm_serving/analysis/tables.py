"""Tables of the study as CSV (raw numbers, interval ends in own columns), Markdown and LaTeX (for reading).

A cell for reading is `value [low, high]`, all three with the digits that give the value three significant
ones, in the unit of the header. Missing is an empty CSV cell and a dash elsewhere, never 0. LaTeX needs
booktabs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from .points import WITH_INTERVAL

DASH = "–"  # noqa: RUF001
KEYS = {
    "engine": "Engine",
    "model": "Model",
    "quantization": "Weights",
    "setup": "Setup",
    "dataset": "Dataset",
}
KEYS |= {"difficulty": "Difficulty", "domain": "Domain", "load": "Load", "budget": "Budget (tokens)"}
PERCENT = 100.0
# column: header, factor from the column's unit to the header's
HEADERS = {
    "asked": ("Asked", 1.0),
    "failed_share": ("Failed (%)", PERCENT),
    "accuracy": ("Accuracy (%)", PERCENT),
    "answered_share": ("Answered (%)", PERCENT),
    "tps": ("Throughput (tokens/s)", 1.0),
    "ttfvt_mean": ("TTFVT mean (s)", 1.0),
    "ttfvt_p99": ("TTFVT p99 (s)", 1.0),
    "tpot_mean": ("TPOT mean (ms)", 1000.0),
    "e2e_mean": ("E2E mean (s)", 1.0),
    "e2e_p50": ("E2E median (s)", 1.0),
    "e2e_p99": ("E2E p99 (s)", 1.0),
    "output_tokens_mean": ("Output tokens mean", 1.0),
    "output_tokens_p99": ("Output tokens p99", 1.0),
    "reasoning_tokens_mean": ("Thinking tokens mean", 1.0),
    "kv_max": ("KV cache max (%)", PERCENT),
    "straggler_share": ("Batch time below half running (%)", PERCENT),
}
MAIN = ["accuracy", "tps", "ttfvt_mean", "ttfvt_p99", "answered_share", "tpot_mean", "e2e_mean"]
MAIN += ["output_tokens_mean", "kv_max"]
STRAGGLERS = ["straggler_share", "e2e_p50", "e2e_p99", "output_tokens_mean", "output_tokens_p99", "tps"]
DIFFICULTY = [
    "asked",
    "accuracy",
    "answered_share",
    "e2e_mean",
    "output_tokens_mean",
    "reasoning_tokens_mean",
]
DOMAIN = ["asked", "accuracy", "answered_share", "failed_share"]


@dataclass(frozen=True)
class Table:
    """keys and metrics: columns of `frame` in the order to be printed; a row a row."""

    keys: list[str]
    metrics: list[str]
    frame: pd.DataFrame


def _table(frame: pd.DataFrame, metrics: list[str], part: list[str]) -> Table:
    # Weights and setup say something only where the experiment varies them.
    optional = [name for name in ("quantization", "setup") if len(set(frame[name])) > 1]
    keys = ["engine", "model", *optional, "dataset", *part, "load", "budget"]
    order = ["engine", "model", *optional, "dataset", *part, "load_size", "budget"]
    return Table(keys, metrics, frame.sort_values(order, kind="stable"))


def main(summary: pd.DataFrame) -> Table:
    """The main results of one experiment, from `points.summary`."""
    return _table(summary, MAIN, [])


def stragglers(summary: pd.DataFrame) -> Table:
    """How long batches wait for their last requests, from `points.summary`; batch loads only."""
    return _table(summary[summary["load"].str.startswith("batch")], STRAGGLERS, [])


def difficulty(breakdown: pd.DataFrame) -> Table:
    """Running time and tokens against difficulty, from `points.breakdown` by difficulty."""
    return _table(breakdown, DIFFICULTY, ["difficulty"])


def domain(breakdown: pd.DataFrame) -> Table:
    """Accuracy by domain, from `points.breakdown` by domain."""
    return _table(breakdown, DOMAIN, ["domain"])


def cell(value: float, low: float = math.nan, high: float = math.nan) -> str:
    """`value [low, high]` with three significant digits of the value (whole numbers keep all)."""
    if math.isnan(value):
        return DASH
    digits = 0 if value == 0 else min(6, max(0, 2 - math.floor(math.log10(abs(value)))))
    text = f"{value:.{digits}f}"
    return text if math.isnan(low) or math.isnan(high) else f"{text} [{low:.{digits}f}, {high:.{digits}f}]"


def _cells(table: Table) -> list[list[str]]:
    columns = [table.frame[key].astype(str).to_list() for key in table.keys]
    for name in table.metrics:
        ends = [name, f"{name}_low", f"{name}_high"] if name in WITH_INTERVAL else [name]
        scaled = (table.frame[ends].astype(float) * HEADERS[name][1]).to_numpy()
        columns.append([cell(*row) for row in scaled])
    return [list(row) for row in zip(*columns, strict=True)]


def _headers(table: Table) -> list[str]:
    return [KEYS[key] for key in table.keys] + [HEADERS[name][0] for name in table.metrics]


def csv(table: Table) -> str:
    """Raw numbers in the units of `points.METRICS`, with `_low` and `_high` columns; missing is empty."""
    columns = list(table.keys)
    for name in table.metrics:
        columns += [name, f"{name}_low", f"{name}_high"] if name in WITH_INTERVAL else [name]
    return table.frame[columns].to_csv(index=False)


def markdown(table: Table) -> str:
    """A pipe table; keys to the left, numbers to the right."""

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(text.replace("|", "\\|") for text in cells) + " |"

    rule = "|" + "|".join([":---"] * len(table.keys) + ["---:"] * len(table.metrics)) + "|"
    return "\n".join([line(_headers(table)), rule, *map(line, _cells(table))]) + "\n"


LATEX = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", DASH: "--"}
)


def latex(table: Table) -> str:
    """A booktabs tabular for `\\input`; no float, so that the paper sets size and caption."""

    def line(cells: list[str]) -> str:
        return " & ".join(text.translate(LATEX) for text in cells) + r" \\"

    layout = "l" * len(table.keys) + "r" * len(table.metrics)
    body = [line(row) for row in _cells(table)]
    head = [rf"\begin{{tabular}}{{{layout}}}", r"\toprule", line(_headers(table)), r"\midrule"]
    return "\n".join([*head, *body, r"\bottomrule", r"\end{tabular}", ""])


def write(table: Table, csv_path: Path | str, md_path: Path | str, tex_path: Path | str) -> None:
    """Write the three forms of a table."""
    for form, path in ((csv, csv_path), (markdown, md_path), (latex, tex_path)):
        Path(path).write_text(form(table), encoding="utf-8")
