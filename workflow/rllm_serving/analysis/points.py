"""Metrics of points and conditions, each with its 95 % interval in `<metric>_low` and `<metric>_high`.

A point is one repeat; a condition pools its repeats. `METRICS` holds unit and definition of every column. Intervals
are bootstraps over questions, all repeats of a question drawn together; those of throughput and stragglers are over
batches (batch loads) or equal blocks of time (other loads), those of server gauges over blocks of time. What can't
be computed is NaN, never 0: a condition without any successful request has no accuracy and no throughput.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from . import server as gauges
from .bootstrap import MISSING, Array, Codes, Estimate, codes, mean, quantiles, ratio
from .requests import CONDITION, SERVER, batches, latencies, token_chunks, token_gaps

LATENCIES = {
    "ttft": ("s", "first token of any kind - arrival"),
    "ttfvt": ("s", "first visible (not thinking) token - arrival; of the requests that answered"),
    "tpot": ("s", "(last chunk - first token) / (output tokens - 1), a value a request"),
    "tbt": ("s", "gap between chunks, weighted by the tokens of the later chunk, over all chunks"),
    "e2e": ("s", "last chunk - arrival"),
}
TOKENS = {
    "prompt_tokens": ("tokens", "prompt tokens of a successful request"),
    "output_tokens": ("tokens", "output tokens (thinking and answer) of a successful request"),
    "reasoning_tokens": ("tokens", "thinking tokens of a successful request"),
    "answer_tokens": ("tokens", "visible tokens of a successful request"),
}
MISSES = ["wrong", "no-answer", "truncated-thinking", "truncated-answer", "failed"]
LATENCY_SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
TOKEN_SHARES = {"p50": 0.5, "p99": 0.99}
RATIOS = {
    "failed_share": ("", "requests that failed / asked"),
    "answered_share": ("", "successful requests with a visible token / asked"),
    "truncated_share": ("", "requests ended by the token budget / asked"),
    "accuracy": ("", "correct / asked; failed and unanswered ones are not correct; none unless every one is graded"),
    "tps": ("tokens/s", "output tokens of successful requests / (last finish - first arrival); sums over repeats"),
    "straggler_share": ("", "share of a batch's time with fewer than half of its requests running; mean of batches"),
}
GAUGES = {
    "kv": ("", "share of the KV cache in use"),
    "running": ("requests", "requests in the running batch of the server"),
    "waiting": ("requests", "requests in the waiting queue of the server"),
}


def _spread(names: dict[str, tuple[str, str]], stats: Sequence[str]) -> dict[str, tuple[str, str]]:
    return {f"{name}_{stat}": (unit, f"{stat}: {text}") for name, (unit, text) in names.items() for stat in stats}


METRICS: dict[str, tuple[str, str]] = {
    "asked": ("requests", "requests of the point"),
    "ok": ("requests", "requests whose stream ended properly"),
    "failed": ("requests", "asked - ok"),
    "questions": ("questions", "different questions asked: the clusters of the intervals"),
    "repeats": ("", "points pooled"),
    **RATIOS,
    **_spread(LATENCIES, ["mean", *LATENCY_SHARES]),
    **_spread(TOKENS, ["mean", *TOKEN_SHARES]),
    **{f"miss_{miss.replace('-', '_')}": ("", f"requests missed as {miss} / asked") for miss in MISSES},
    **_spread(GAUGES, ["mean", "max"]),
    "kv_p5": ("", "5 % quantile over time of the KV cache's use"),
    "kv_p95": ("", "95 % quantile over time of the KV cache's use"),
    "kv_swing": ("", "kv_p95 - kv_p5"),
    "preemptions": ("requests", "increase of the server's counter of preempted requests"),
    "duration": ("s", "wall time of the point as its run recorded it; sum over repeats"),
}
WITH_INTERVAL = [*RATIOS, *_spread(LATENCIES, ["mean", *LATENCY_SHARES]), *_spread(TOKENS, ["mean", *TOKEN_SHARES])]
WITH_INTERVAL += [f"{name}_mean" for name in GAUGES]


def _columns(keys: Sequence[str]) -> list[str]:
    wide = [[m, f"{m}_low", f"{m}_high"] if m in WITH_INTERVAL else [m] for m in METRICS]
    return [*keys, *(column for group in wide for column in group)]


class _Row(dict[str, Any]):
    def put(self, name: str, estimate: Estimate) -> None:
        self[name], self[f"{name}_low"], self[f"{name}_high"] = estimate

    def spread(
        self, name: str, values: Array, cluster: Codes, shares: dict[str, float], weights: Array | None = None
    ) -> None:
        self.put(f"{name}_mean", mean(values, cluster, weights))
        found = quantiles(values, cluster, tuple(shares.values()), weights)
        for stat, estimate in zip(shares, found, strict=True):
            self.put(f"{name}_{stat}", estimate)


def _per_request(row: _Row, group: pd.DataFrame, cluster: Codes) -> None:
    """Everything that needs no more than the requests' own rows."""
    ok = group["ok"].to_numpy()
    one = np.ones(len(group))
    row["asked"], row["ok"], row["failed"] = len(group), ok.sum(), (~ok).sum()
    row["questions"], row["repeats"] = group["question_id"].nunique(), group["repeat"].nunique()
    row.put("failed_share", ratio((~ok).astype(float), one, cluster))
    row.put("answered_share", ratio(group["answered"].to_numpy(dtype=float), one, cluster))
    row.put("truncated_share", ratio((ok & (group["finish_reason"] == "length")).to_numpy(dtype=float), one, cluster))
    graded = ok.any() and group["correct"].notna().all()
    row.put("accuracy", ratio(group["correct"].to_numpy(dtype=float), one, cluster) if graded else MISSING)
    for miss in MISSES if graded else ():
        row[f"miss_{miss.replace('-', '_')}"] = (group["miss"] == miss).mean()
    for name in LATENCIES:
        if name != "tbt":
            row.spread(name, group[name].to_numpy(), cluster, LATENCY_SHARES)
    for name in TOKENS:
        row.spread(name, group[name].where(group["ok"]).to_numpy(), cluster, TOKEN_SHARES)


def _per_token(row: _Row, group: pd.DataFrame, chunks: pd.DataFrame, cluster: Codes) -> None:
    """Time between tokens, throughput and stragglers. chunks: those of the group's successful requests."""
    gaps = token_gaps(chunks)
    owner = cluster[gaps["row"].to_numpy()]
    row.spread("tbt", gaps["gap"].to_numpy(), owner, LATENCY_SHARES, gaps["tokens"].to_numpy())
    # Throughput made of nothing but errors, or of requests whose tokens nobody counted, is no throughput.
    if not group["ok"].any() or group.loc[group["ok"], "output_tokens"].isna().any():
        return
    if group["load"].iloc[0].startswith("batch"):
        table = batches(group)
        unit = np.arange(len(table))
        row.put("tps", ratio(table["tokens"].to_numpy(), table["seconds"].to_numpy(), unit))
        row.put("straggler_share", mean(table["straggler_share"].to_numpy(), unit))
    else:
        row.put("tps", ratio(*_time_blocks(group, chunks)))


def _time_blocks(group: pd.DataFrame, chunks: pd.DataFrame) -> tuple[Array, Array, Codes]:
    """Tokens, seconds and number of each of the equal time blocks of the group's points, for the interval of TPS.

    Tokens fall into blocks by their chunks' times; each request's chunks are scaled to its own token count, since a
    server's count may include tokens that no chunk showed.
    """
    point = group.groupby("repeat").agg(start=("arrival", "min"), end=("end", "max")).dropna()
    number = point.index.get_indexer(group["repeat"])
    start, end = (point[name].to_numpy()[number] for name in ("start", "end"))
    row, tokens = chunks["row"].to_numpy(), chunks["tokens"].to_numpy()
    shown = np.bincount(row, tokens, len(group))
    count = group["output_tokens"].where(group["ok"]).fillna(0).to_numpy()
    # A request that showed no chunk of tokens counts at its end.
    silent = np.flatnonzero((shown == 0) & (count > 0))
    row, time = np.append(row, silent), np.append(chunks["time"].to_numpy(), group["end"].to_numpy()[silent])
    share = np.append(tokens, count[silent]) * (count / np.where(shown == 0, np.where(count > 0, count, 1), shown))[row]
    block = gauges.time_blocks(time, number[row], start[row], end[row])
    length = np.repeat((point["end"] - point["start"]).to_numpy() / gauges.BLOCKS, gauges.BLOCKS)
    return np.bincount(block, share, len(length)), length, np.arange(len(length))


def _groups(frame: pd.DataFrame, keys: list[str]) -> Iterator[tuple[dict[str, Any], NDArray[np.int64]]]:
    for key, rows in frame.groupby(keys, sort=True, observed=True).indices.items():
        yield dict(zip(keys, key if isinstance(key, tuple) else (key,), strict=True)), np.asarray(rows)


def graded(requests: pa.Table, grades: pd.DataFrame | None) -> pd.DataFrame:
    """`latencies` with the grades' `correct` (float, NaN where there is no grade) and `miss`."""
    frame = latencies(requests)
    if grades is None:
        return frame.assign(correct=np.nan, miss=None)
    keys = [name for name in [*SERVER, *CONDITION, "repeat", "index"] if name in grades.columns]
    found = grades[[*keys, "correct", "miss"]].astype({"correct": float})
    return frame.merge(found, on=keys, how="left", validate="one_to_one")


def _durations(run: dict[str, Any] | None) -> pd.DataFrame:
    names = ["dataset", "load", "budget", "repeat", "duration_s"]
    return pd.DataFrame((run or {}).get("points", []), columns=names)


def _table(
    requests: pa.Table,
    grades: pd.DataFrame | None,
    server: pd.DataFrame | None,
    run: dict[str, Any] | None,
    keys: list[str],
) -> pd.DataFrame:
    frame = graded(requests, grades)
    durations, lists = _durations(run), requests.select(["chunk_times", "chunk_tokens"])
    point = [name for name in keys if name not in SERVER and name != "load_size"]
    samples = {} if server is None else dict(tuple(server.groupby(point)))
    rows = []
    for key, index in _groups(frame, keys):
        group = frame.take(index).reset_index(drop=True)
        row = _Row(key)
        cluster = codes(group["question_id"])
        _per_request(row, group, cluster)
        chunks = token_chunks(lists.take(pa.array(index)))
        _per_token(row, group, chunks[group["ok"].to_numpy()[chunks["row"]]], cluster)
        name = tuple(key[part] for part in point)
        if name in samples:
            row |= gauges.use(samples[name])
        same = (durations[point] == list(name)).all(axis=1)
        row["duration"] = durations.loc[same, "duration_s"].sum() if same.any() else np.nan
        rows.append(row)
    return pd.DataFrame(rows, columns=_columns(keys))


def points(
    requests: pa.Table,
    grades: pd.DataFrame | None = None,
    server: pd.DataFrame | None = None,
    run: dict[str, Any] | None = None,
) -> pd.DataFrame:
    """One row a point of one run: keys (SERVER, CONDITION, repeat) and METRICS with intervals.

    requests: table from `requests.read`; grades, server: grades.parquet and server.parquet as frames; run: run.json.
    What is not given leaves its metrics NaN.
    """
    return _table(requests, grades, server, run, [*SERVER, *CONDITION, "repeat"])


def summary(
    requests: pa.Table,
    grades: pd.DataFrame | None = None,
    server: pd.DataFrame | None = None,
    run: dict[str, Any] | None = None,
) -> pd.DataFrame:
    """One row a condition of one run, its repeats pooled; otherwise as `points`."""
    return _table(requests, grades, server, run, [*SERVER, *CONDITION])


def breakdown(requests: pa.Table, grades: pd.DataFrame | None, by: str) -> pd.DataFrame:
    """One row a condition of one run and value of `by` ("difficulty" or "domain"), repeats pooled.

    Columns: keys, `by`, and those of METRICS that hold for a part of a point: all but throughput, TBT, stragglers,
    server metrics and duration, which are NaN.
    """
    keys = [*SERVER, *CONDITION, by]
    frame, rows = graded(requests, grades), []
    for key, index in _groups(frame, keys):
        group = frame.take(index).reset_index(drop=True)
        row = _Row(key)
        _per_request(row, group, codes(group["question_id"]))
        rows.append(row)
    return pd.DataFrame(rows, columns=_columns(keys))
