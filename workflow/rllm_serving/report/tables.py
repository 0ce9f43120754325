"""The tables of the study: which rows, in which order, with which metrics. `table_forms` writes them."""

from __future__ import annotations

import math
from collections.abc import Callable

import pandas as pd

from ..analysis.comparison import AGREEMENT_METRICS
from ..analysis.metric import ENDS
from ..analysis.metrics import COMPARED, FROM_STARTS, INTERACTIONS, NOISE
from ..analysis.noise import noise_floor
from ..analysis.request_metrics import CONDITION, SERVER
from .table_forms import Table

MAIN = ["accuracy", "output_throughput", "ttfvt_mean", "ttfvt_p99", "answered_rate", "tpot_mean", "e2e_latency_mean"]
MAIN += ["output_tokens_mean", "kv_cache_usage_max"]
STRAGGLERS = ["straggler_time_fraction", "last_quarter_time_fraction", "e2e_latency_p50", "e2e_latency_p99"]
STRAGGLERS += ["output_tokens_mean", "output_tokens_p99", "output_throughput"]
DIFFICULTY = ["num_requests", "accuracy", "answered_rate", "e2e_latency_mean", "output_tokens_mean"]
DIFFICULTY += ["reasoning_tokens_mean"]
TRAFFIC = ["num_requests", "slo_attainment", "goodput", "ttfvt_mean", "ttfvt_p99", "tpot_mean", "e2e_latency_mean"]
TRAFFIC += ["e2e_latency_p99", "output_throughput", "waiting_max", "kv_cache_usage_max", "accuracy"]
TRAFFIC += ["schedule_lag_p99_s"]
DOMAIN = ["num_requests", "accuracy", "answered_rate", "failed_rate"]
WORTH = ["accuracy", "correct_rate", "correct_per_device_second", "correct_per_joule", "correct_per_million_tokens"]
WORTH += ["correct_per_dollar", "request_throughput_per_device", "energy_per_answer"]
REASONS = ["delta_e2e_latency", "queue_and_prefill", "thinking_ratio", "thinking", "answer", "speed"]
REASONS += ["thinking_difference", "prefix_hit_rate", "preemptions", "accepted_rate", "accepted_share"]
REASONS += ["accepted_per_step_thinking", "accepted_per_step_answer", "kv_bytes_per_token"]
DERIVED = ["same_verdict", "same_text", "same_end", "accuracy", "accuracy_derived", "accuracy_difference"]
DERIVED += ["answered_rate", "answered_rate_derived", "answered_rate_difference", "cut_in_chunk_rate"]
# A metric of `comparison.compare`: the metric that its value is called, and how its change is told.
CHANGES = {
    "accuracy": ("accuracy", "difference"),
    "output_throughput": ("output_throughput", "ratio"),
    "ttfvt": ("ttfvt_mean", "ratio"),
    "tpot": ("tpot_mean", "ratio"),
    "e2e_latency": ("e2e_latency_mean", "ratio"),
    "output_tokens": ("output_tokens_mean", "ratio"),
    "reasoning_tokens": ("reasoning_tokens_mean", "ratio"),
    "kv_cache_usage_max": ("kv_cache_usage_max", "ratio"),
    "memory": ("memory_max", "ratio"),
}
SERVER_ORDER = ["engine", "model", "dataset", "load_level", "budget", "quantization", "setup"]
LEFT_KEYS = [name.replace("load_level", "load") for name in SERVER_ORDER]


def _by_condition(frame: pd.DataFrame, metrics: list[str], part: str | None = None) -> Table:
    """Return a table of `frame` by server and condition, and by `part` of the questions."""
    # Weights and setup say something only where the experiment varies them.
    varied = [name for name in ("quantization", "setup") if len(set(frame[name])) > 1]
    left = [*(name for name in ("engine", "against", "model") if name in frame), *varied, "dataset"]
    left += [part] if part else []
    return Table([*left, "load", *_budget(frame)], metrics, _sorted(frame, [*left, "load_level", "budget"]))


def _budget(frame: pd.DataFrame) -> list[str]:
    """Columns that tell a row's budget: where some were derived also the one that their answers were cut from."""
    return ["budget", "derived_from"] if frame["derived_from"].notna().any() else ["budget"]


def _measured(frame: pd.DataFrame, *loads: str) -> pd.DataFrame:
    """Return the measured rows under loads whose names begin so (default: any): derived ones have no times."""
    return frame[frame["load"].str.startswith(loads or "") & frame["derived_from"].isna()]


def _sorted(frame: pd.DataFrame, order: list[str]) -> pd.DataFrame:
    return frame.sort_values(order, kind="stable").reset_index(drop=True)


def main(summary: pd.DataFrame) -> Table:
    """Return the main results of one experiment, from `points.Tables.summary`."""
    return _by_condition(summary, MAIN)


def stragglers(summary: pd.DataFrame) -> Table:
    """Return how long batches wait for their last requests, from `points.Tables.summary`; batch loads only (C2)."""
    return _by_condition(_measured(summary, "batch"), STRAGGLERS)


def worth(summary: pd.DataFrame) -> Table:
    """Return what each server is worth, from `points.Tables.summary`; a dollar's only where there is a price."""
    priced = bool(summary["correct_per_dollar"].notna().any())
    return _by_condition(_measured(summary), [name for name in WORTH if priced or name != "correct_per_dollar"])


def traffic(summary: pd.DataFrame) -> Table:
    """Return what users see of a stream of requests, from `points.Tables.summary`; open-loop loads only (C11)."""
    return _by_condition(_measured(summary, "open", "trace"), TRAFFIC)


def difficulty(breakdown: pd.DataFrame) -> Table:
    """Return running time and tokens against difficulty, from `points.Tables.difficulty` (C3)."""
    return _by_condition(breakdown, DIFFICULTY, "difficulty")


def domain(breakdown: pd.DataFrame) -> Table:
    """Return accuracy by domain, from `points.Tables.domain` (C4)."""
    return _by_condition(breakdown, DOMAIN, "domain")


def engines(comparison: pd.DataFrame) -> Table:
    """Return each engine against the experiment's first at equal load, from `comparison.compare`."""
    changes = {name: "difference" if name == "accuracy" else "ratio" for name in COMPARED}
    frame = pivot_metrics(comparison, list(changes.items()))
    names = {name: f"{name}_{change}" for name, change in changes.items()}
    frame = frame.rename(columns={f"{name}_verdict": f"{column}_verdict" for name, column in names.items()})
    return _by_condition(frame, list(names.values()))


def agreement(comparison: pd.DataFrame) -> Table:
    """Return how often both engines said the same, from `comparison.compare`."""
    frame = pivot_metrics(comparison, [(name, "value") for name in AGREEMENT_METRICS])
    return _by_condition(frame.rename(columns=lambda name: name.replace("_value", "")), AGREEMENT_METRICS)


def optimisations(comparison: pd.DataFrame) -> Table:
    """Return the paper's table: a row a setup or weight format, each metric as value and change against the baseline.

    A change is a ratio, of accuracy a difference in points, with its paired interval. The baseline itself is the first
    row of its engine, model and dataset.

    Args:
        comparison: rows of `comparison.compare` with the baseline, and rows with a `reason` for what is unsupported.
    """
    unsupported = comparison[comparison["reason"].notna()] if "reason" in comparison else None
    parts = [(name, part) for name, (_, change) in CHANGES.items() for part in ("value", "baseline", change)]
    frame = pivot_metrics(comparison if unsupported is None else comparison[comparison["reason"].isna()], parts)
    base = frame.drop_duplicates(["engine", "model", *CONDITION]).assign(quantization="bf16", setup="baseline")
    base["invalid"] = base["invalid_baseline"]
    names: dict[str, str] = {}
    for name, (column, change) in CHANGES.items():
        for end in ENDS:
            base[f"{name}_value{end}"] = base[f"{name}_baseline{end}"]
            base[f"{name}_{change}{end}"] = math.nan
            names |= {f"{name}_value{end}": column + end, f"{name}_{change}{end}": f"{column}_{change}{end}"}
        base[f"{name}_verdict"] = None
        names[f"{name}_verdict"] = f"{column}_{change}_verdict"
    frame = pd.concat([base, frame, unsupported], ignore_index=True).rename(columns=names)
    order = [["bf16", "baseline"].index(name) if name in ("bf16", "baseline") else 2 for name in frame["setup"]]
    frame = _sorted(frame.assign(order=order), [*SERVER_ORDER[:5], "order", *SERVER_ORDER[5:]])
    return Table([*LEFT_KEYS, *_budget(frame)[1:]], [column for column, _ in CHANGES.values()], frame, changes=True)


def interaction(changes: pd.DataFrame) -> Table:
    """Return what each change does to the RLLM of a pair beyond what it does to its LLM, from `interactions`."""
    keys = ["engine", "pair", "quantization", "setup", "dataset", "load_level", "load", "budget"]
    values = [f"interaction{end}" for end in ENDS]
    wide = changes.pivot(index=keys, columns="metric", values=[*values, "verdict"])
    columns: dict[str, pd.Series] = {}
    for name, metric in INTERACTIONS.items():
        if ("interaction", name) in wide:
            columns |= {metric.name + end: wide[f"interaction{end}", name].astype(float) for end in ENDS}
            columns[f"{metric.name}_verdict"] = wide["verdict", name]
    frame = pd.DataFrame(columns, index=wide.index).reset_index()
    shown = [metric.name for metric in INTERACTIONS.values() if metric.name in frame]
    frame = frame.merge(changes.drop_duplicates(keys)[[*keys, "derived_from"]], on=keys)
    left = [*(key for key in keys if key not in ("load_level", "budget")), *_budget(frame)]
    return Table(left, shown, _sorted(frame, keys))


def noise(starts: pd.DataFrame) -> Table:
    """Return by how much starts of one server differ, from `points.Tables.starts`: the study's noise floor."""
    frame = noise_floor(starts, CONDITION, FROM_STARTS)
    return Table(["engine", "model"], ["starts", *NOISE], _sorted(frame, ["engine", "model"]))


def decomposition(parts: pd.DataFrame) -> Table:
    """Return what each change of E2E latency is made of, and what the servers counted, from `decompose`."""
    return Table([*LEFT_KEYS, "kernels"], REASONS, _sorted(parts, SERVER_ORDER))


def derived_budgets(check: pd.DataFrame) -> Table:
    """Return how measured budgets agree with what would have been derived for them, from `check_derived`."""
    servers = check[check["model"] != "all"]
    varied = [name for name in ("quantization", "setup") if servers[name].nunique() > 1]
    keys = ["engine", "model", *varied, "dataset", "load", "budget", "derived_from", "draws"]
    return Table(keys, ["num_requests", "identical_cells", "cells", *DERIVED], check)


TABLES: dict[str, Callable[[pd.DataFrame], Table]] = {
    function.__name__: function
    for function in (
        *(main, worth, stragglers, difficulty, domain, engines, agreement, optimisations),
        *(interaction, decomposition, traffic, noise, derived_budgets),
    )
}


def pivot_metrics(comparison: pd.DataFrame, parts: list[tuple[str, str]]) -> pd.DataFrame:
    """Return rows of `comparison.compare` with columns `{metric}_{part}` (and _low, _high) and `{metric}_verdict`."""
    keys = [*SERVER, "against", *CONDITION]
    values = [f"{part}{end}" for part in {part for _, part in parts} for end in ENDS]
    wide = comparison.pivot(index=keys, columns="metric", values=[*values, "verdict"])
    columns = {f"{name}_{part}{end}": wide[f"{part}{end}", name].astype(float) for name, part in parts for end in ENDS}
    columns |= {f"{name}_verdict": wide["verdict", name] for name, _ in parts}
    marks = comparison.drop_duplicates(keys)[[*keys, "derived_from", "invalid", "invalid_baseline"]]
    return pd.DataFrame(columns).reset_index().merge(marks, on=keys)
