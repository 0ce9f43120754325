"""Two runs side by side: the same questions, seeds, order and load on two servers, a ratio and a difference a metric.

Intervals are paired bootstraps: over questions (all repeats together) for what is a mean of requests, over batches or
blocks of time for throughput, over blocks of time for the server's gauges; see `intervals.paired`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from . import server_metrics
from .intervals import MISSING, Array, Codes, Comparison, Interval, codes, means, paired, paired_means
from .points import recorded, throughput
from .request_metrics import CONDITION, SERVER, as_slice_if_contiguous
from .run_data import RunData

PAIRED_MEANS = [
    "accuracy",
    "answered_rate",
    "ttft",
    "ttfvt",
    "tpot",
    "e2e_latency",
    "output_tokens",
    "reasoning_tokens",
]
"""Means of requests: `metrics.METRICS` has their definitions (of the latencies and tokens, those of `_mean`)."""
AGREEMENT_METRICS = ["same_answer", "same_text", "same_length"]
"""Share of requests completed on both servers with the same extracted answer (or none on both), text, number of
output tokens."""
COLUMNS = [f"{part}{end}" for part in Comparison._fields for end in ("", "_low", "_high")]


def compare(candidate: RunData, baseline: RunData) -> pd.DataFrame:
    """One row a condition of both runs and metric, with why a side's points are invalid (see `with_validity`).

    Columns: SERVER (of the candidate), `against` (the baseline's engine/quantization/setup), CONDITION, `metric`, and
    COLUMNS: value (candidate), baseline, ratio (value / baseline) and difference (value - baseline, in the metric's
    unit), each with _low and _high; NaN where there is none.

    Metrics: PAIRED_MEANS, output_throughput, kv_cache_usage and running (means under load), kv_cache_usage_max (under
    load), memory (bytes, the device's where there is one, else the host's; the maximum of all samples) and
    AGREEMENT_METRICS.

    Raises:
        ValueError: when the two did not ask the same questions.
    """
    rows = []
    for keys, sides, cluster in conditions(candidate, baseline):
        rows += [{**keys, "metric": name, **values} for name, values in _metrics(*sides, cluster)]
    frame = pd.DataFrame(rows, columns=[*SERVER, "against", *CONDITION, "metric", *COLUMNS])
    return with_validity(frame, candidate, baseline)


def with_validity(frame: pd.DataFrame, candidate: RunData, baseline: RunData) -> pd.DataFrame:
    """Rows of a comparison with `invalid` and `invalid_baseline`: why a side's points are beyond a validity gate.

    Missing where they are not. A comparison with an invalid baseline is invalid itself.
    """
    keys = ["dataset", "load", "budget"]
    candidate_reasons, baseline_reasons = (
        [reasons.get(tuple(key)) for key in frame[keys].itertuples(index=False)]
        for reasons in (recorded(run.record, keys)["invalid"].dropna().to_dict() for run in (candidate, baseline))
    )
    joined = [
        "; ".join(text for text in (candidate_reason, baseline_reason and f"baseline: {baseline_reason}") if text)
        or None
        for candidate_reason, baseline_reason in zip(candidate_reasons, baseline_reasons, strict=True)
    ]
    return frame.assign(
        invalid=pd.Series(joined, frame.index, object),
        invalid_baseline=pd.Series(baseline_reasons, frame.index, object),
    )


@dataclass(frozen=True)
class Condition:
    """The part of a side that belongs to one condition.

    Attributes:
        requests: rows of `latencies` in the order of repeat and index.
        chunks: `Chunks.take` of the completed ones.
        samples: rows of server.parquet.
    """

    requests: pd.DataFrame
    chunks: pd.DataFrame
    samples: pd.DataFrame


def conditions(
    candidate: RunData, baseline: RunData
) -> Iterator[tuple[dict[str, Any], tuple[Condition, Condition], Codes]]:
    """Each condition that two runs have in common: its keys, its part of both, the cluster (question) of each request.

    keys: SERVER of the candidate, `against` (the baseline's engine/quantization/setup), CONDITION.

    Raises:
        ValueError: when the two did not ask the same questions.
    """
    against = "/".join(baseline.frame[["engine", "quantization", "setup"]].iloc[0])
    server: dict[str, Any] = dict(zip(SERVER, candidate.frame[SERVER].iloc[0], strict=True))
    runs = (candidate, baseline)
    groups: list[dict[Any, Any]] = [run.frame.groupby(CONDITION, sort=True).indices for run in runs]
    samples: list[dict[Any, pd.DataFrame]] = [
        {} if run.server is None else dict(tuple(run.server.groupby(CONDITION))) for run in runs
    ]
    for key in sorted(groups[0].keys() & groups[1].keys()):
        candidate_part, baseline_part = (
            _condition(run, group[key], sampled.get(key))
            for run, group, sampled in zip(runs, groups, samples, strict=True)
        )
        requested = [part.requests[["question_id", "repeat"]] for part in (candidate_part, baseline_part)]
        if not requested[0].equals(requested[1]):
            raise ValueError("the two runs asked different questions; measure them again with the same config")
        keys = {**server, "against": against, **dict(zip(CONDITION, key, strict=True))}
        yield keys, (candidate_part, baseline_part), codes(requested[0]["question_id"])


def _condition(run: RunData, rows: Any, samples: pd.DataFrame | None) -> Condition:
    index, repeat = (run.frame[name].to_numpy()[rows] for name in ("index", "repeat"))
    order = np.asarray(rows)[np.lexsort((index, repeat))]
    group = run.frame.iloc[as_slice_if_contiguous(order)].reset_index(drop=True)
    if samples is None:
        samples = pd.DataFrame() if run.server is None else run.server.iloc[:0]
    return Condition(group, run.chunks.take(order, group["completed"].to_numpy()), samples)


def _metrics(candidate: Condition, baseline: Condition, cluster: Codes) -> Iterator[tuple[str, dict[str, float]]]:
    sides = (candidate, baseline)
    values, baseline_values = ([_values(side.requests, name) for name in PAIRED_MEANS] for side in sides)
    for name, comparison in zip(PAIRED_MEANS, paired_means(values, baseline_values, cluster), strict=True):
        yield name, _comparison_columns(comparison)
    sums = {"output_throughput": [throughput(side.requests, side.chunks) for side in sides]}
    for gauge in ("kv_cache_usage", "running"):
        sums[gauge] = [server_metrics.sums(side.samples, gauge) for side in sides]
    for name, (candidate_sums, baseline_sums) in sums.items():
        if candidate_sums is not None and baseline_sums is not None:
            yield name, _comparison_columns(paired(candidate_sums, baseline_sums))
    largest = {
        "kv_cache_usage_max": [
            _maximum(server_metrics.under_load(side.samples, "kv_cache_usage"), ["kv_cache_usage"]) for side in sides
        ]
    }
    largest["memory"] = [_maximum(side.samples, ["device_memory_bytes", "host_rss_bytes"]) for side in sides]
    for name, (value, baseline_value) in largest.items():
        quotient = value / baseline_value if baseline_value else np.nan
        numbers = (value, baseline_value, quotient, value - baseline_value)
        bare = [Interval(number, np.nan, np.nan) for number in numbers]
        yield name, _comparison_columns(Comparison(*bare))
    ok = (candidate.requests["completed"] & baseline.requests["completed"]).to_numpy()
    agreement = []
    for column in ("extracted", "said", "output_tokens"):
        agreement.append(np.where(ok, _says_the_same(*(side.requests[column] for side in sides)), np.nan))
    for name, share in zip(AGREEMENT_METRICS, means(agreement, cluster), strict=True):
        yield name, _comparison_columns(Comparison(share, MISSING, MISSING, MISSING))


def _says_the_same(candidate: pd.Series, baseline: pd.Series) -> Any:
    """Where two columns say the same; what is missing says the same as nothing."""
    missing, baseline_missing = (column.isna().to_numpy() for column in (candidate, baseline))
    if pd.api.types.is_numeric_dtype(candidate) and pd.api.types.is_numeric_dtype(baseline):
        return (candidate.to_numpy() == baseline.to_numpy()) | (missing & baseline_missing)
    candidate_text, baseline_text = (column.astype("string").fillna("") for column in (candidate, baseline))
    return candidate_text.eq(baseline_text).to_numpy(dtype=bool)


def _values(requests: pd.DataFrame, name: str) -> Array:
    if name in ("accuracy", "answered_rate"):
        values: Array = requests["correct" if name == "accuracy" else "answered"].to_numpy(dtype=float)
        return values
    return requests[name].where(requests["completed"]).to_numpy(dtype=float)


def _comparison_columns(comparison: Comparison) -> dict[str, float]:
    return dict(zip(COLUMNS, (number for estimate in comparison for number in estimate), strict=True))


def _maximum(samples: pd.DataFrame, columns: list[str]) -> float:
    """Largest value of the first of the columns that has any."""
    for column in columns:
        values: Array = samples[column].dropna().to_numpy(dtype=float)
        if len(values):
            return float(values.max())
    return np.nan
