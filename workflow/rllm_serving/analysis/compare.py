"""Two runs side by side: the same questions, seeds, order and load on two servers, a ratio and a difference a metric.

Intervals are paired bootstraps: over questions (all repeats together) for what is a mean of requests, over batches or
blocks of time for throughput, over blocks of time for the server's gauges; see `bootstrap.paired`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from . import server as gauges
from .bootstrap import MISSING, Array, Codes, Comparison, Estimate, codes, means, paired, paired_means
from .points import graded, recorded, throughput
from .requests import CHUNKS, CONDITION, SERVER, token_chunks

MEANS = ["accuracy", "answered_share", "ttft", "ttfvt", "tpot", "e2e", "output_tokens", "reasoning_tokens"]
"""Means of requests: `metrics.METRICS` has their definitions (of the latencies and tokens, those of `_mean`)."""
SAME = ["same_answer", "same_text", "same_length"]
"""Share of requests that ended well on both servers with the same extracted answer (or none on both), text, number of
output tokens."""
COLUMNS = [f"{part}{end}" for part in Comparison._fields for end in ("", "_low", "_high")]


@dataclass(frozen=True)
class Side:
    """What one run measured. requests: table from `requests.read`, texts included where texts are compared; grades,
    server: its grades.parquet and server.parquet."""

    requests: pa.Table
    grades: pd.DataFrame
    server: pd.DataFrame


Runs = Sequence[Mapping[str, Any]]
"""run.json of mine and of the reference."""


def compare(mine: Side, reference: Side, runs: Runs = ({}, {})) -> pd.DataFrame:
    """One row a condition of both runs and metric; runs tell which are beyond a validity gate (see `marked`).

    Columns: SERVER (of mine), `against` (the other's engine/quantization/setup), CONDITION, `metric`, and COLUMNS:
    value (mine), reference, ratio (value / reference) and difference (value - reference, in the metric's unit), each
    with _low and _high; NaN where there is none. Metrics: accuracy, answered_share, the means of latencies and tokens
    (see MEANS), tps, kv and running (means under load), kv_max (under load), memory (bytes, the device's where there
    is one, else the host's; the maximum of all samples) and SAME.
    Raises ValueError when the two did not ask the same questions.
    """
    sides = (mine, reference)
    frames = [graded(side.requests, side.grades, ("correct", "miss", "extracted")) for side in sides]
    rows = []
    for keys, both, cluster in conditions(sides, frames):
        rows += [{**keys, "metric": name, **values} for name, values in _metrics(*both, cluster)]
    return marked(pd.DataFrame(rows, columns=[*SERVER, "against", *CONDITION, "metric", *COLUMNS]), runs)


def marked(frame: pd.DataFrame, runs: Runs) -> pd.DataFrame:
    """Rows of a comparison with `invalid` and `invalid_reference`: why a side's points are beyond a validity gate.

    Missing where they are not. A comparison with an invalid reference is invalid itself.
    """
    keys = ["dataset", "load", "budget"]
    mine, other = (
        [reasons.get(tuple(key)) for key in frame[keys].itertuples(index=False)]
        for reasons in (recorded(run, keys)["invalid"].dropna().to_dict() for run in runs)
    )
    both = [
        "; ".join(text for text in (one, two and f"reference: {two}") if text) or None
        for one, two in zip(mine, other, strict=True)
    ]
    return frame.assign(
        invalid=pd.Series(both, frame.index, object), invalid_reference=pd.Series(other, frame.index, object)
    )


@dataclass(frozen=True)
class Condition:
    """The part of a side that belongs to one condition.

    requests: rows of `latencies` in the order of repeat and index; chunks: `token_chunks` of those that ended well;
    samples: rows of server.parquet.
    """

    requests: pd.DataFrame
    chunks: pd.DataFrame
    samples: pd.DataFrame


def conditions(
    sides: tuple[Side, Side], frames: Sequence[pd.DataFrame]
) -> Iterator[tuple[dict[str, Any], tuple[Condition, Condition], Codes]]:
    """Each condition that two sides have in common: its keys, its part of both, the cluster (question) of each request.

    frames: rows of `latencies` of each side, with any columns more. keys: SERVER of the first, `against` (the
    other's engine/quantization/setup), CONDITION. Raises ValueError when the two did not ask the same questions.
    """
    against = "/".join(frames[1][["engine", "quantization", "setup"]].iloc[0])
    groups: list[dict[Any, Any]] = [frame.groupby(CONDITION, sort=True).indices for frame in frames]
    for key in sorted(groups[0].keys() & groups[1].keys()):
        one, two = (_condition(s, f, g[key]) for s, f, g in zip(sides, frames, groups, strict=True))
        asked = [side.requests[["question_id", "repeat"]] for side in (one, two)]
        if not asked[0].equals(asked[1]):
            raise ValueError("the two runs asked different questions; measure them again with the same config")
        keys = {**frames[0][SERVER].iloc[0], "against": against, **dict(zip(CONDITION, key, strict=True))}
        yield keys, (one, two), codes(asked[0]["question_id"])


def _condition(side: Side, frame: pd.DataFrame, rows: Any) -> Condition:
    group = frame.take(rows)
    order = np.lexsort((group["index"].to_numpy(), group["repeat"].to_numpy()))
    group = group.iloc[order].reset_index(drop=True)
    chunks = token_chunks(side.requests.select(CHUNKS).take(pa.array(np.asarray(rows)[order])))
    keys = [name for name in CONDITION if name in side.server.columns]
    samples = side.server[(side.server[keys] == group[keys].iloc[0]).all(axis=1)]
    return Condition(group, chunks[group["ok"].to_numpy()[chunks["row"]]], samples)


def _metrics(mine: Condition, reference: Condition, cluster: Codes) -> Iterator[tuple[str, dict[str, float]]]:
    both = (mine, reference)
    values, others = ([_values(side.requests, name) for name in MEANS] for side in both)
    for name, comparison in zip(MEANS, paired_means(values, others, cluster), strict=True):
        yield name, _flat(comparison)
    sums = {"tps": [throughput(side.requests, side.chunks) for side in both]}
    for name, column in (("kv", "kv_use"), ("running", "running")):
        sums[name] = [gauges.sums(side.samples, column) for side in both]
    for name, (one, two) in sums.items():
        if one is not None and two is not None:
            yield name, _flat(paired(one, two))
    largest = {"kv_max": [_maximum(gauges.under_load(side.samples, "kv_use"), ["kv_use"]) for side in both]}
    largest["memory"] = [_maximum(side.samples, ["device_memory_bytes", "host_rss_bytes"]) for side in both]
    for name, (value, other) in largest.items():
        bare = [Estimate(x, np.nan, np.nan) for x in (value, other, value / other if other else np.nan, value - other)]
        yield name, _flat(Comparison(*bare))
    ok = (mine.requests["ok"] & reference.requests["ok"]).to_numpy()
    same = []
    for columns in (["extracted"], ["reasoning_text", "answer_text"], ["output_tokens"]):
        equal = np.logical_and.reduce([_equal(*(side.requests[column] for side in both)) for column in columns])
        same.append(np.where(ok, equal, np.nan))
    for name, share in zip(SAME, means(same, cluster), strict=True):
        yield name, _flat(Comparison(share, MISSING, MISSING, MISSING))


def _equal(said: pd.Series, other: pd.Series) -> Any:
    """Where two columns say the same; what is missing says the same as nothing."""
    missing, other_missing = (column.isna().to_numpy() for column in (said, other))
    if pd.api.types.is_numeric_dtype(said) and pd.api.types.is_numeric_dtype(other):
        return (said.to_numpy() == other.to_numpy()) | (missing & other_missing)
    one, two = (column.astype("string").fillna("") for column in (said, other))
    return one.eq(two).to_numpy(dtype=bool)


def _values(requests: pd.DataFrame, name: str) -> Array:
    if name in ("accuracy", "answered_share"):
        values: Array = requests["correct" if name == "accuracy" else "answered"].to_numpy(dtype=float)
        return values
    return requests[name].where(requests["ok"]).to_numpy(dtype=float)


def _flat(comparison: Comparison) -> dict[str, float]:
    return dict(zip(COLUMNS, (number for estimate in comparison for number in estimate), strict=True))


def _maximum(samples: pd.DataFrame, columns: list[str]) -> float:
    """Largest value of the first of the columns that has any."""
    for column in columns:
        seen: Array = samples[column].dropna().to_numpy(dtype=float)
        if len(seen):
            return float(seen.max())
    return np.nan
