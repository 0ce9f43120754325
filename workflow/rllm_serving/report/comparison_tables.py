"""Tables of comparisons: engines, agreement, setups and weight formats against the baseline, and the reasons."""

from __future__ import annotations

import math

import pandas as pd

from ..analysis.comparison import AGREEMENT_METRICS
from ..analysis.request_metrics import CONDITION, SERVER
from .tables import COMPARED, Table, table

# A metric of `comparison.compare` -> the column of HEADERS that its value stands under, and how its change is told.
CHANGE_COLUMNS = {
    "accuracy": ("accuracy", "difference"),
    "output_throughput": ("output_throughput", "ratio"),
    "ttfvt": ("ttfvt_mean", "ratio"),
    "tpot": ("tpot_mean", "ratio"),
    "e2e_latency": ("e2e_latency_mean", "ratio"),
    "output_tokens": ("output_tokens_mean", "ratio"),
    "kv_cache_usage_max": ("kv_cache_usage_max", "ratio"),
    "memory": ("memory_max", "ratio"),
}
REASONS = [
    "delta_e2e_latency",
    "queue_and_prefill",
    "thinking",
    "answer",
    "speed",
    "thinking_difference",
    "prefix_hit_rate",
]
REASONS += ["preemptions", "accepted_rate", "accepted_rate_thinking", "accepted_rate_answer", "kv_bytes_per_token"]
KEY_COLUMNS = ["engine", "model", "dataset", "load", "budget", "quantization", "setup"]


def engines(versus: pd.DataFrame) -> Table:
    """Each engine against the first one at equal load, from `comparison.compare`."""
    wanted = [*((name, "ratio") for name in COMPARED), ("accuracy", "difference")]
    metrics = ["accuracy_ratio", "accuracy_difference", *(f"{name}_ratio" for name in COMPARED if name != "accuracy")]
    return table(pivot_metrics(versus, wanted), metrics, [])


def agreement(versus: pd.DataFrame) -> Table:
    """How often both engines said the same, from `comparison.compare`."""
    return table(
        pivot_metrics(versus, [(name, "value") for name in AGREEMENT_METRICS]).rename(columns=_plain),
        AGREEMENT_METRICS,
        [],
    )


def optimisations(versus: pd.DataFrame) -> Table:
    """The paper's table: a row a setup or weight format, each metric as value and change against the baseline.

    versus: rows of `comparison.compare` with the baseline, and rows with a `reason` for what cannot be. A change is a
    ratio, of accuracy a difference in points, with its paired interval. The baseline itself is the first row of its
    engine, model and dataset.
    """
    marked = versus[versus["reason"].notna()] if "reason" in versus else None
    wanted = [(name, part) for name, (_, change) in CHANGE_COLUMNS.items() for part in ("value", "baseline", change)]
    frame = pivot_metrics(versus if marked is None else versus[versus["reason"].isna()], wanted)
    base = frame.drop_duplicates(["engine", "model", *CONDITION]).assign(quantization="bf16", setup="baseline")
    base["invalid"] = base["invalid_baseline"]
    for name in CHANGE_COLUMNS:
        for end in ("", "_low", "_high"):
            base[f"{name}_value{end}"] = base[f"{name}_baseline{end}"]
            base[f"{name}_{CHANGE_COLUMNS[name][1]}{end}"] = math.nan
    names = {f"{name}_value": column for name, (column, _) in CHANGE_COLUMNS.items()}
    names |= {f"{name}_{change}": f"{column}_{change}" for name, (column, change) in CHANGE_COLUMNS.items()}
    names = {old + end: new + end for old, new in names.items() for end in ("", "_low", "_high")}
    frame = pd.concat([base, frame, marked], ignore_index=True).rename(columns=names)
    order = [["bf16", "baseline"].index(name) if name in ("bf16", "baseline") else 2 for name in frame["setup"]]
    frame = frame.assign(order=order).sort_values(
        ["engine", "model", "dataset", "load_level", "budget", "order", "quantization", "setup"], kind="stable"
    )
    return Table(
        KEY_COLUMNS, [column for column, _ in CHANGE_COLUMNS.values()], frame.reset_index(drop=True), changes=True
    )


def _plain(name: str) -> str:
    """`same_text_value_low` as `same_text_low`."""
    return name.replace("_value", "")


def pivot_metrics(versus: pd.DataFrame, wanted: list[tuple[str, str]]) -> pd.DataFrame:
    """Rows of `comparison.compare` with a column `{metric}_{part}` (and _low, _high) for each of `wanted`."""
    keys = [*SERVER, "against", *CONDITION]
    ends = ("", "_low", "_high")
    found = versus.pivot(index=keys, columns="metric", values=[f"{p}{e}" for p in {p for _, p in wanted} for e in ends])
    columns = {f"{name}_{part}{end}": found[f"{part}{end}", name] for name, part in wanted for end in ends}
    marks = versus.drop_duplicates(keys)[[*keys, "invalid", "invalid_baseline"]]
    return pd.DataFrame(columns).reset_index().merge(marks, on=keys)


def why(reasons: pd.DataFrame) -> Table:
    """What each change of E2E is made of, and what the servers counted, from `decomposition.decompose`."""
    order = ["engine", "model", "dataset", "load_level", "budget", "quantization", "setup"]
    frame = reasons.sort_values(order, kind="stable").reset_index(drop=True)
    return Table([*KEY_COLUMNS, "kernels"], REASONS, frame)


TABLES = {"engines": engines, "agreement": agreement, "optimisations": optimisations, "why": why}
