"""Servers side by side: the same questions, seeds, order and load on two of them, a ratio and a difference a metric.

What a model says is compared question by question: cluster k of both sides is the same question. Times, rates and
gauges are compared by the means of their starts, with the noise of the servers of their engine (see `noise`). Of a
latency only requests that have it on both sides take part; `requests` says how many.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from . import says
from .intervals import (
    Array,
    Codes,
    Estimate,
    Interval,
    from_log,
    mean,
    paired_difference,
    paired_log_ratio,
    share,
)
from .noise import NoiseTable, difference, on_scale
from .pairing import Condition, conditions, with_validity
from .request_metrics import CONDITION, SERVER
from .server_data import START, ServerData
from .server_metrics import under_load
from .verdicts import COLUMNS as JUDGED
from .verdicts import judged

RATES = ["accuracy", "answered_rate"]
TOKENS = ["output_tokens", "reasoning_tokens"]
LATENCIES = ["ttft", "ttfvt", "tpot", "e2e_latency"]
"""Means of requests that have them on both sides."""
PER_START = {
    "output_throughput": "output_throughput",
    "kv_cache_usage": "kv_cache_usage_mean",
    "kv_held_share": "kv_held_share_mean",
    "running": "running_mean",
}
"""Metric -> its column in `points.Tables.starts`."""
MARGIN_OF = {
    "answered_rate": "accuracy",
    "kv_held_share": "kv_cache_usage",
    "running": "kv_cache_usage",
    **dict.fromkeys(LATENCIES, "latency"),
    **dict.fromkeys(TOKENS, "tokens"),
}
"""Metric -> the key of its margin, where that is another."""
AGREEMENT_METRICS = ["same_answer", "same_text", "same_length"]
"""Share of requests completed on both servers with the same extracted answer (or none on both), text, number of
output tokens."""
PARTS = ["value", "baseline", "ratio", "difference"]
COLUMNS = [f"{part}{end}" for part in PARTS for end in ("", "_low", "_high")]
COUNTS = ["requests", "starts", "starts_baseline", "error", "df"]


@dataclass(frozen=True)
class Rules:
    """What comparisons are judged by.

    Attributes:
        noise: of the experiment's starts.
        starts: `points.Tables.starts`.
        margins: the config's `analysis.margins`.
    """

    noise: NoiseTable
    starts: pd.DataFrame
    margins: Mapping[str, float]

    def margin(self, metric: str) -> float:
        """Return `margin_of` a metric."""
        return margin_of(metric, self.margins)


def margin_of(metric: str, margins: Mapping[str, float]) -> float:
    """Return the margin of a metric on the scale that it is judged on; margins: the config's `analysis.margins`."""
    margin = margins[MARGIN_OF.get(metric, metric)]
    return margin if metric in RATES else float(np.log1p(margin))


def compare(candidate: ServerData, baseline: ServerData, rules: Rules) -> pd.DataFrame:
    """One row a condition of both servers and metric.

    Columns: SERVER (of the candidate), `against` (the baseline's engine/quantization/setup), CONDITION, derived_from
    (the budget that both sides' answers were cut from, missing where they were measured), `metric`;
    COLUMNS: value (candidate), baseline, ratio (value / baseline) and difference (value - baseline, in the metric's
    unit), each with _low and _high, NaN where there is none; COUNTS: requests with a value on both sides, starts of
    either, standard error (of the difference of RATES, else of the log of the ratio) and its degrees of freedom;
    `verdicts.COLUMNS`; `invalid` and `invalid_baseline`: why a side's points are beyond a validity gate.

    Metrics: RATES (differences), TOKENS, LATENCIES, PER_START (ratios), kv_cache_usage_max (under load) and memory
    (bytes, the device's where there is one, else the host's; the maximum of all samples), which have no interval, and
    AGREEMENT_METRICS.

    Raises:
        ValueError: when the two did not ask the same questions.
    """
    rows = []
    for keys, sides, cluster in conditions(candidate, baseline):
        for name, values in _metrics(keys, sides, cluster, rules):
            rows.append({**keys, "metric": name, **values})
    columns = [*SERVER, "against", *CONDITION, "derived_from", "metric", *COLUMNS, *COUNTS, *JUDGED]
    return with_validity(pd.DataFrame(rows, columns=columns), candidate, baseline)


Pair = tuple[Condition, Condition]


def _metrics(
    keys: Mapping[str, Any], sides: Pair, cluster: Codes, rules: Rules
) -> Iterator[tuple[str, dict[str, Any]]]:
    for name in RATES:
        yield name, _rate(name, sides, cluster, rules)
    for name in TOKENS:
        yield name, _tokens(name, sides, cluster, rules)
    for name in LATENCIES:
        yield (
            name,
            _over_starts(name, f"{name}_mean", keys, sides, [_start_means(sides, name, k) for k in (0, 1)], rules)
            | {"requests": int(_on_both(sides, name).sum())},
        )
    for name, column in PER_START.items():
        values = [_of_starts(rules.starts, keys, side, column) for side in sides]
        if all(len(side) for side in values):
            yield name, _over_starts(name, column, keys, sides, values, rules)
    yield (
        "kv_cache_usage_max",
        _bare(*(_maximum(under_load(side.samples, "kv_cache_usage"), ["kv_cache_usage"]) for side in sides)),
    )
    yield "memory", _bare(*(_maximum(side.samples, ["device_memory_bytes", "host_rss_bytes"]) for side in sides))
    ok = (sides[0].requests["completed"] & sides[1].requests["completed"]).to_numpy()
    for name, column in zip(AGREEMENT_METRICS, ("extracted", "said", "output_tokens"), strict=True):
        same = np.where(ok, _says_the_same(*(side.requests[column] for side in sides)), np.nan)
        yield name, says.interval_columns("value", share(same, cluster)) | {"requests": int(ok.sum())}


def _rate(name: str, sides: Pair, cluster: Codes, rules: Rules) -> dict[str, Any]:
    found = [says.rates(side.requests).get(name) for side in sides]
    hits = [side.to_numpy(dtype=float) for side in found if side is not None]
    if len(hits) < len(sides):
        return {}
    effect = paired_difference(hits[0], hits[1], cluster)
    values = [share(side, cluster) for side in hits]
    estimates = [*values, from_log(paired_log_ratio(hits[0], hits[1], cluster)), effect.interval()]
    return _columns(estimates) | _verdict(name, effect, rules) | {"requests": len(cluster)}


def _tokens(name: str, sides: Pair, cluster: Codes, rules: Rules) -> dict[str, Any]:
    known = _on_both(sides, name)
    values = [side.requests[name].where(known).to_numpy(dtype=float) for side in sides]
    means = [mean(side, cluster) for side in values]
    effect = paired_log_ratio(values[0], values[1], cluster)
    difference_of = Interval(means[0].value - means[1].value, np.nan, np.nan)
    estimates = [*means, from_log(effect), difference_of]
    return _columns(estimates) | _verdict(name, effect, rules) | {"requests": int(known.sum())}


def _over_starts(
    metric: str,
    column: str,
    keys: Mapping[str, Any],
    sides: Pair,
    values: list[pd.Series],
    rules: Rules,
) -> dict[str, Any]:
    """Compare two servers by a value a start of each (index: start); column: whose noise is that of the metric."""
    condition = [keys[name] for name in CONDITION]
    engines = [side.requests["engine"].iloc[0] for side in sides]
    noise = [rules.noise.of(column, engine, keys["model"], condition) for engine in engines]
    logs = [on_scale(side.to_numpy(), linear=False) for side in values]
    logs = [side[np.isfinite(side)] for side in logs]
    if not all(len(side) for side in logs):
        return {}
    means, counts = [float(side.mean()) for side in logs], [len(side) for side in logs]
    same = engines[0] == engines[1]
    shared = [rules.noise.between(column, engines[0], keys["model"], condition)] * 2 if same else noise
    effect = difference([(means[0], counts[0], shared[0], 1), (means[1], counts[1], shared[1], -1)], same)
    alone = [
        from_log(Estimate(centre, of.error(count), of.df))
        for centre, count, of in zip(means, counts, noise, strict=True)
    ]
    change = Interval(alone[0].value - alone[1].value, np.nan, np.nan)
    found = _columns([*alone, from_log(effect), change]) | _verdict(metric, effect, rules)
    return found | {"starts": counts[0], "starts_baseline": counts[1]}


def _verdict(name: str, effect: Estimate, rules: Rules) -> dict[str, float]:
    return {"error": effect.error, "df": effect.df, **judged(effect, rules.margin(name))}


def _on_both(sides: Pair, name: str) -> pd.Series:
    """Which requests have a value on both sides."""
    known = [side.requests["completed"] & side.requests[name].notna() for side in sides]
    return known[0] & known[1]


def _start_means(sides: Pair, name: str, which: int) -> pd.Series:
    requests = sides[which].requests
    return requests[name].where(_on_both(sides, name)).groupby([requests[key] for key in START]).mean()


def _of_starts(starts: pd.DataFrame, keys: Mapping[str, Any], side: Condition, column: str) -> pd.Series:
    """A column of `points.Tables.starts` for the server of a side and its condition (index: start)."""
    server = side.requests[SERVER].iloc[0].to_dict() | {name: keys[name] for name in CONDITION}
    chosen = np.ones(len(starts), dtype=bool)
    for name, value in server.items():
        chosen &= (starts[name] == value).to_numpy()
    return starts[chosen].set_index(START)[column].dropna()


def _bare(value: float, baseline: float) -> dict[str, float]:
    quotient = value / baseline if baseline else np.nan
    return _columns([Interval(x, np.nan, np.nan) for x in (value, baseline, quotient, value - baseline)])


def _columns(estimates: list[Interval]) -> dict[str, float]:
    return dict(zip(COLUMNS, (number for estimate in estimates for number in estimate), strict=True))


def _says_the_same(candidate: pd.Series, baseline: pd.Series) -> Any:
    """Where two columns say the same; what is missing says the same as nothing."""
    missing, baseline_missing = (column.isna().to_numpy() for column in (candidate, baseline))
    if pd.api.types.is_numeric_dtype(candidate) and pd.api.types.is_numeric_dtype(baseline):
        return (candidate.to_numpy() == baseline.to_numpy()) | (missing & baseline_missing)
    candidate_text, baseline_text = (column.astype("string").fillna("") for column in (candidate, baseline))
    return candidate_text.eq(baseline_text).to_numpy(dtype=bool)


def _maximum(samples: pd.DataFrame, columns: list[str]) -> float:
    """Largest value of the first of the columns that has any."""
    for column in columns:
        values: Array = samples[column].dropna().to_numpy(dtype=float)
        if len(values):
            return float(values.max())
    return np.nan
