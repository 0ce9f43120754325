"""Tables of the study as CSV (raw numbers, interval ends in own columns), Markdown and LaTeX (for reading).

A cell for reading is `value [low, high]`, all three with the digits that give the value three significant
ones, in the unit of the header. Missing is an empty CSV cell and a dash elsewhere, never 0. A comparison whose
interval holds "no change" is marked with the sign for "about equal". A row with a dagger at its keys is beyond a
validity gate, and the CSV has the reason in `invalid`. A row with a `reason` is a server that cannot be:
it says so instead of its numbers. LaTeX needs booktabs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..analysis.comparison import AGREEMENT_METRICS

DASH = "–"  # noqa: RUF001
KEYS = {
    "engine": "Engine",
    "against": "Against",
    "model": "Model",
    "quantization": "Weights",
    "setup": "Setup",
    "dataset": "Dataset",
}
KEYS |= {
    "difficulty": "Difficulty",
    "domain": "Domain",
    "load": "Load",
    "budget": "Budget (tokens)",
    "kernels": "Kernels",
}
PERCENT = 100.0
# column: header, factor from the column's unit to the header's
HEADERS = {
    "num_requests": ("Asked", 1.0),
    "failed_rate": ("Failed (%)", PERCENT),
    "accuracy": ("Accuracy (%)", PERCENT),
    "answered_rate": ("Answered (%)", PERCENT),
    "output_throughput": ("Throughput (tokens/s)", 1.0),
    "ttfvt_mean": ("TTFVT mean (s)", 1.0),
    "ttfvt_p99": ("TTFVT p99 (s)", 1.0),
    "tpot_mean": ("TPOT mean (ms)", 1000.0),
    "e2e_latency_mean": ("E2E mean (s)", 1.0),
    "e2e_latency_p50": ("E2E median (s)", 1.0),
    "e2e_latency_p99": ("E2E p99 (s)", 1.0),
    "output_tokens_mean": ("Output tokens mean", 1.0),
    "output_tokens_p99": ("Output tokens p99", 1.0),
    "reasoning_tokens_mean": ("Thinking tokens mean", 1.0),
    "kv_cache_usage_max": ("KV cache max (%)", PERCENT),
    "straggler_time_fraction": ("Batch time below half running (%)", PERCENT),
}
# A metric of `comparison.compare`: header of its ratio or, for the others, of its value.
COMPARED = {
    "accuracy": "Accuracy",
    "output_throughput": "Throughput",
    "ttfvt": "TTFVT",
    "tpot": "TPOT",
    "e2e_latency": "E2E",
    "output_tokens": "Output tokens",
    "kv_cache_usage": "KV use",
}
HEADERS |= {f"{name}_ratio": (f"{text} ratio", 1.0) for name, text in COMPARED.items()}
HEADERS |= {"accuracy_difference": ("Accuracy difference (points)", PERCENT)}
HEADERS |= dict(
    zip(
        AGREEMENT_METRICS,
        (("Same answer (%)", PERCENT), ("Same text (%)", PERCENT), ("Same length (%)", PERCENT)),
        strict=True,
    )
)
HEADERS |= {
    "slo_attainment": ("Within SLO (%)", PERCENT),
    "goodput": ("Within SLO (requests/s)", 1.0),
    "waiting_max": ("Waiting max", 1.0),
    "schedule_lag_p99_s": ("Sent late, p99 (ms)", 1000.0),
}
HEADERS |= {
    "memory_max": ("Memory max (GB)", 1e-9),
    "delta_e2e_latency": ("E2E change (ms)", 1000.0),
    "queue_and_prefill": ("of queue and prefill (ms)", 1000.0),
    "thinking": ("of thinking tokens (ms)", 1000.0),
    "answer": ("of answer tokens (ms)", 1000.0),
    "speed": ("of time per token (ms)", 1000.0),
    "thinking_difference": ("Thinking change (tokens)", 1.0),
    "prefix_hit_rate": ("Prefix hits (%)", PERCENT),
    "preemptions": ("Preemptions", 1.0),
    "accepted_rate": ("Drafts accepted (%)", PERCENT),
    "accepted_rate_thinking": ("while thinking (%)", PERCENT),
    "accepted_rate_answer": ("while answering (%)", PERCENT),
    "kv_bytes_per_token": ("KV bytes a token", 1.0),
}
NO_CHANGE = {"_ratio": 1.0, "_difference": 0.0}
ABOUT = "≈"
INVALID = "†"
MAIN = ["accuracy", "output_throughput", "ttfvt_mean", "ttfvt_p99", "answered_rate", "tpot_mean", "e2e_latency_mean"]
MAIN += ["output_tokens_mean", "kv_cache_usage_max"]
STRAGGLERS = [
    "straggler_time_fraction",
    "e2e_latency_p50",
    "e2e_latency_p99",
    "output_tokens_mean",
    "output_tokens_p99",
    "output_throughput",
]
DIFFICULTY = [
    "num_requests",
    "accuracy",
    "answered_rate",
    "e2e_latency_mean",
    "output_tokens_mean",
    "reasoning_tokens_mean",
]
TRAFFIC = [
    "num_requests",
    "slo_attainment",
    "goodput",
    "ttfvt_mean",
    "ttfvt_p99",
    "tpot_mean",
    "e2e_latency_mean",
    "e2e_latency_p99",
]
TRAFFIC += ["output_throughput", "waiting_max", "kv_cache_usage_max", "accuracy", "schedule_lag_p99_s"]
DOMAIN = ["num_requests", "accuracy", "answered_rate", "failed_rate"]


@dataclass(frozen=True)
class Table:
    """keys and metrics: columns of `frame` in the order to be printed; a row a row.

    changes: each metric stands beside its change, from the column `{metric}_ratio` or `{metric}_difference`.
    """

    keys: list[str]
    metrics: list[str]
    frame: pd.DataFrame
    changes: bool = False


def table(frame: pd.DataFrame, metrics: list[str], part: list[str]) -> Table:
    """A table of `frame` by server and condition, and by `part` of the questions."""
    # Weights and setup say something only where the experiment varies them.
    optional = [name for name in ("quantization", "setup") if len(set(frame[name])) > 1]
    server = [name for name in ("engine", "against", "model") if name in frame]
    keys = [*server, *optional, "dataset", *part, "load", "budget"]
    order = [*server, *optional, "dataset", *part, "load_level", "budget"]
    return Table(keys, metrics, frame.sort_values(order, kind="stable").reset_index(drop=True))


def main(summary: pd.DataFrame) -> Table:
    """The main results of one experiment, from `points.summary`."""
    return table(summary, MAIN, [])


def stragglers(summary: pd.DataFrame) -> Table:
    """How long batches wait for their last requests, from `points.summary`; batch loads only."""
    return table(summary[summary["load"].str.startswith("batch")], STRAGGLERS, [])


def traffic(summary: pd.DataFrame) -> Table:
    """What users see of a stream of requests, from `points.summary`; open-loop loads only."""
    return table(summary[summary["load"].str.startswith(("open", "trace"))], TRAFFIC, [])


def difficulty(breakdown: pd.DataFrame) -> Table:
    """Running time and tokens against difficulty, from `points.breakdown` by difficulty."""
    return table(breakdown, DIFFICULTY, ["difficulty"])


def domain(breakdown: pd.DataFrame) -> Table:
    """Accuracy by domain, from `points.breakdown` by domain."""
    return table(breakdown, DOMAIN, ["domain"])


def cell(value: float, low: float = math.nan, high: float = math.nan, no_change: float | None = None) -> str:
    """`value [low, high]` with three significant digits of the value (whole numbers keep all).

    no_change: value that means "the same"; an interval that holds it is marked with ABOUT.
    """
    if math.isnan(value):
        return DASH
    digits = 0 if value == 0 else min(6, max(0, 2 - math.floor(math.log10(abs(value)))))
    text = f"{value:.{digits}f}"
    if no_change is not None and low <= no_change <= high:
        text = f"{ABOUT} {text}"
    return text if math.isnan(low) or math.isnan(high) else f"{text} [{low:.{digits}f}, {high:.{digits}f}]"


def _ends(table: Table, name: str) -> list[str]:
    return [name, *(end for end in (f"{name}_low", f"{name}_high") if end in table.frame)]


def _change(table: Table, name: str) -> str | None:
    """The column with the change of a metric against its baseline, where the table has one."""
    return next((f"{name}{end}" for end in NO_CHANGE if table.changes and f"{name}{end}" in table.frame), None)


def _changed_cells(table: Table, name: str) -> list[str]:
    change = _change(table, name) or ""
    sign, same = ("x", 1.0) if change.endswith("_ratio") else ("", 0.0)
    scale = HEADERS[name][1] if same == 0 else 1.0
    found = (table.frame[[change, f"{change}_low", f"{change}_high"]].astype(float) * scale).to_numpy()
    values = (table.frame[name].astype(float) * HEADERS[name][1]).tolist()
    cells = []
    for value, (middle, low, high) in zip(values, found.tolist(), strict=True):
        told = cell(middle, low, high, same)
        cells.append(cell(value) if math.isnan(middle) else f"{cell(value)} ({sign}{told})")
    return cells


def _key_cells(column: pd.Series) -> list[str]:
    whole = column.astype("Int64") if pd.api.types.is_float_dtype(column) else column
    return [DASH if pd.isna(value) else str(value) for value in whole]


def _cells(table: Table) -> list[list[str]]:
    columns = [_key_cells(table.frame[key]) for key in table.keys]
    for name in table.metrics:
        if _change(table, name):
            columns.append(_changed_cells(table, name))
            continue
        same = next((value for suffix, value in NO_CHANGE.items() if name.endswith(suffix)), None)
        column: list[str] = []
        scaled = (table.frame[_ends(table, name)].astype(float) * HEADERS[name][1]).to_numpy()
        for value, *ends in scaled.tolist():
            low, high = ends or (math.nan, math.nan)
            column.append(cell(value, low, high, same))
        columns.append(column)
    if "reason" in table.frame:
        first = columns[len(table.keys)]
        for number, reason in enumerate(table.frame["reason"]):
            first[number] = first[number] if pd.isna(reason) else f"not supported: {reason}"
    if "invalid" in table.frame:
        last = columns[len(table.keys) - 1]
        for number, reason in enumerate(table.frame["invalid"]):
            last[number] += "" if pd.isna(reason) else f" {INVALID}"
    return [list(row) for row in zip(*columns, strict=True)]


def _headers(table: Table) -> list[str]:
    return [KEYS[key] for key in table.keys] + [HEADERS[name][0] for name in table.metrics]


def csv(table: Table) -> str:
    """Raw numbers in the units of `metrics.METRICS`, with `_low` and `_high` columns; missing is empty."""
    columns = list(table.keys)
    for name in table.metrics:
        columns += [*_ends(table, name), *(_ends(table, change) if (change := _change(table, name)) else [])]
    columns += [name for name in ("reason", "invalid") if name in table.frame]
    return table.frame[columns].to_csv(index=False)


def markdown(table: Table) -> str:
    """A pipe table; keys to the left, numbers to the right."""

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(text.replace("|", "\\|") for text in cells) + " |"

    rule = "|" + "|".join([":---"] * len(table.keys) + ["---:"] * len(table.metrics)) + "|"
    return "\n".join([line(_headers(table)), rule, *map(line, _cells(table))]) + "\n"


LATEX = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        DASH: "--",
        ABOUT: r"$\approx$",
        INVALID: r"$\dagger$",
    }
)


def latex(table: Table) -> str:
    r"""A booktabs tabular for `\input`; no float, so that the paper sets size and caption."""

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
