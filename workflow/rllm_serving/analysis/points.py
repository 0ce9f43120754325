"""Metrics of points and conditions, each with its 95 % interval in `<metric>_low` and `<metric>_high`.

A point is one repeat; a condition pools its repeats. `metrics.METRICS` holds unit and definition of every column.
Intervals are bootstraps over questions, all repeats of a question drawn together; those of throughput and
stragglers are over batches (batch loads) or equal blocks of time (other loads), those of server gauges over
blocks of time. What can't be computed is NaN, never 0: a condition without any successful request has no
accuracy and no throughput.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd

from . import server_metrics
from .intervals import Array, Codes, Interval, Sums, codes, mean, means, quantiles, ratio
from .metrics import FAILURE_MODES, LATENCIES, LATENCY_SHARES, METRICS, TOKEN_SHARES, TOKENS
from .request_metrics import CONDITION, SERVER, as_slice_if_contiguous, batches, point_spans, token_gaps
from .run_data import RunData
from .validity import CLIENT_GATES


def _columns(keys: Sequence[str]) -> list[str]:
    wide = [[m, f"{m}_low", f"{m}_high"] if metric.interval else [m] for m, metric in METRICS.items()]
    return [*keys, *(column for group in wide for column in group)]


class _Row(dict[str, Any]):
    def put(self, name: str, estimate: Interval) -> None:
        self[name], self[f"{name}_low"], self[f"{name}_high"] = estimate

    def spread(
        self, name: str, values: Array, cluster: Codes, shares: Mapping[str, float], weights: Array | None = None
    ) -> None:
        results = quantiles(values, cluster, list(shares.values()), weights)
        for stat, estimate in zip(shares, results, strict=True):
            self.put(f"{name}_{stat}", estimate)


@dataclass(frozen=True)
class Slo:
    """What users are promised: the first visible token after at most `ttfvt_s`, then one every `tpot_ms` on average."""

    ttfvt_s: float
    tpot_ms: float

    def met(self, frame: pd.DataFrame) -> pd.Series:
        """Which requests (rows of `latencies`) met it; one of a single visible token has no pace to miss."""
        paced = (frame["visible_tpot"] * 1000 <= self.tpot_ms) | ((frame["answer_tokens"] < 2) & frame["completed"])
        return (frame["ttfvt"] <= self.ttfvt_s) & paced


def _per_request(row: _Row, group: pd.DataFrame, cluster: Codes, slo: Slo | None) -> None:
    """Everything that needs no more than the requests' own rows."""
    ok = group["completed"]
    row |= {"num_requests": len(group), "completed": ok.sum(), "failed": (~ok).sum()}
    row |= {"num_questions": group["question"].nunique(), "repeats": group["repeat"].nunique()}
    shares = {"failed_rate": ~ok, "answered_rate": group["answered"]}
    shares["truncated_rate"] = ok & (group["finish_reason"] == "length")
    if slo is not None:
        within = slo.met(group)
        shares["slo_attainment"] = within
        seconds = point_spans(group)["seconds"].sum()
        row["goodput"] = within.sum() / seconds if seconds > 0 else np.nan
    if ok.any() and group["correct"].notna().all() and group["forced_output_tokens"].isna().all():
        shares["accuracy"] = group["correct"]
        row |= {
            f"failure_mode_{miss.replace('-', '_')}": (group["failure_mode"] == miss).mean() for miss in FAILURE_MODES
        }
    spread = {
        name: (group[name].to_numpy(dtype=float), LATENCY_SHARES) for name in LATENCIES if name not in ("itl", "icl")
    }
    spread |= {name: (group[name].where(ok).to_numpy(dtype=float), TOKEN_SHARES) for name in TOKENS}
    averaged = {name: hit.to_numpy(dtype=float) for name, hit in shares.items()}
    averaged |= {f"{name}_mean": values for name, (values, _) in spread.items()}
    for name, estimate in zip(averaged, means(list(averaged.values()), cluster), strict=True):
        row.put(name, estimate)
    for name, (values, quantile_shares) in spread.items():
        row.spread(name, values, cluster, quantile_shares)


def _per_token(row: _Row, group: pd.DataFrame, chunks: pd.DataFrame, cluster: Codes) -> None:
    """Time between tokens, throughput and stragglers. chunks: those of the group's successful requests."""
    gaps = token_gaps(chunks)
    whose = cluster[gaps["row"]]
    for name, column, weights in (("itl", "itl", gaps["tokens"].to_numpy()), ("icl", "gap", None)):
        values = gaps[column].to_numpy()
        row.put(f"{name}_mean", mean(values, whose, weights))
        row.spread(name, values, whose, LATENCY_SHARES, weights)
    output_throughput = throughput(group, chunks)
    if output_throughput is not None:
        row.put("output_throughput", ratio(*output_throughput))
        if group["load"].iloc[0].startswith("batch"):
            shares = batches(group)["straggler_time_fraction"].to_numpy()
            row.put("straggler_time_fraction", mean(shares, codes(np.arange(len(shares)))))


def throughput(group: pd.DataFrame, chunks: pd.DataFrame) -> Sums | None:
    """Tokens, seconds and number of each batch (batch loads) or of each equal block of time (other loads).

    group: rows of `latencies` of one condition; chunks: `Chunks.take` of its successful requests. None where
    throughput would be made of nothing but errors, or of requests whose tokens nobody counted.
    """
    if not group["completed"].any() or group.loc[group["completed"], "output_tokens"].isna().any():
        return None
    if not group["load"].iloc[0].startswith("batch"):
        return _time_blocks(group, chunks)
    table = batches(group)
    return table["tokens"].to_numpy(dtype=float), table["seconds"].to_numpy(), codes(np.arange(len(table)))


def _time_blocks(group: pd.DataFrame, chunks: pd.DataFrame) -> Sums:
    """Tokens, seconds and number of each equal time block of the group's points, for the interval of TPS.

    Tokens fall into blocks by their chunks' times; each request's chunks are scaled to its own token count,
    since a server's count may include tokens that no chunk showed.
    """
    point = point_spans(group).dropna()
    number = point.index.get_indexer(pd.Index(group["repeat"]))
    start, end = (point[name].to_numpy()[number] for name in ("start", "end"))
    row, tokens = chunks["row"].to_numpy(), chunks["tokens"].to_numpy()
    shown = np.bincount(row, tokens, len(group))
    count = group["output_tokens"].where(group["completed"]).fillna(0).to_numpy()
    # A request that showed no chunk of tokens counts at its end.
    silent = np.flatnonzero((shown == 0) & (count > 0))
    shown[silent] = count[silent]
    row, time = np.append(row, silent), np.append(chunks["time"], group["end"].to_numpy()[silent])
    scale = np.divide(count, shown, out=np.zeros(len(group)), where=shown > 0)
    tokens = np.append(tokens, count[silent]) * scale[row]
    block = server_metrics.time_blocks(time, number[row], start[row], end[row])
    length = np.repeat(point["seconds"].to_numpy() / server_metrics.BLOCKS, server_metrics.BLOCKS)
    return np.bincount(block, tokens, len(length)).astype(float), length, codes(np.arange(len(length)))


def _groups(
    frame: pd.DataFrame, keys: list[str], slo: Slo | None = None
) -> Iterator[tuple[_Row, pd.DataFrame, Codes, Codes]]:
    """Row with its keys, requests, their positions in the frame, their cluster."""
    # Questions as numbers in the order of their names; the keys are left out, which are the same all over a group.
    needed = frame.assign(question=pd.factorize(frame["question_id"], sort=True)[0])
    constant = [*SERVER, "dataset", "load_level", "budget"]
    needed = needed.drop(columns=[*constant, "question_id", "domain", "difficulty", "status", "extracted"])
    for key, positions in frame.groupby(keys, sort=True).indices.items():
        rows = np.asarray(positions)
        group = needed.iloc[as_slice_if_contiguous(rows)].reset_index(drop=True)
        row, cluster = _Row(zip(keys, cast(tuple[Any, ...], key), strict=True)), codes(group["question"])
        _per_request(row, group, cluster, slo)
        yield row, group, rows, cluster


def _joined(reasons: pd.Series) -> Any:
    return "; ".join(dict.fromkeys(reasons.dropna())) or None


def recorded(record: Mapping[str, Any], point: list[str]) -> pd.DataFrame:
    """What run.json has of each group of points, by the keys `point`: duration, numbers of CLIENT_GATES, invalid."""
    rows = [{**entry, **entry.get("validity", {})} for entry in record.get("points", [])]
    names = list(CLIENT_GATES)
    table = pd.DataFrame(rows, columns=[*point, "duration_s", *names, "invalid"])
    table = table.rename(columns={"duration_s": "duration"})
    grouped = table.astype(dict.fromkeys(["duration", *names], float)).groupby(point)
    records = grouped[names].max()
    records["duration"] = grouped["duration"].sum(min_count=1)
    records["invalid"] = grouped["invalid"].agg(_joined)
    return records


def _table(run: RunData, keys: list[str], slo: Slo | None) -> pd.DataFrame:
    point = [name for name in keys if name in ("dataset", "load", "budget", "repeat")]
    records = recorded(run.record, point)
    samples: dict[Any, pd.DataFrame] = {} if run.server is None else dict(tuple(run.server.groupby(point)))
    rows = []
    for row, group, index, cluster in _groups(run.frame, keys, slo):
        _per_token(row, group, run.chunks.take(index, group["completed"].to_numpy()), cluster)
        key = tuple(row[name] for name in point)
        row |= server_metrics.gauge_summary(samples[key]) if key in samples else {}
        row |= records.loc[key].to_dict() if key in records.index else {}
        rows.append(row)
    return pd.DataFrame(rows, columns=_columns(keys))


def points(run: RunData, slo: Slo | None = None) -> pd.DataFrame:
    """One row a point: keys (SERVER, CONDITION, repeat) and METRICS with intervals. slo: for goodput."""
    return _table(run, [*SERVER, *CONDITION, "repeat"], slo)


def summary(run: RunData, slo: Slo | None = None) -> pd.DataFrame:
    """One row a condition, its repeats pooled; otherwise as `points`."""
    return _table(run, [*SERVER, *CONDITION], slo)


def breakdown(run: RunData, by: str) -> pd.DataFrame:
    """One row a condition and value of `by` ("difficulty" or "domain"), repeats pooled.

    Columns: keys, `by`, and METRICS; throughput, ITL, stragglers, server metrics and duration do not hold for
    a part of a point and are NaN.
    """
    keys = [*SERVER, *CONDITION, by]
    point = ["dataset", "load", "budget"]
    reasons = recorded(run.record, point)["invalid"]
    rows = []
    for row, *_ in _groups(run.frame, keys):
        rows.append({**row, "invalid": reasons.get(tuple(row[name] for name in point))})
    return pd.DataFrame(rows, columns=_columns(keys))
