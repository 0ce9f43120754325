"""Metrics of points and conditions, each with its 95 % interval in `<metric>_low` and `<metric>_high`.

A point is one repeat; a condition pools its repeats. `METRICS` holds unit and definition of every column.
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
import pyarrow as pa

from ..validity import GATES
from . import server as gauges
from .bootstrap import Array, Codes, Estimate, Sums, codes, mean, quantiles, ratio
from .requests import CHUNKS, CONDITION, SERVER, batches, latencies, token_chunks, token_gaps

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
    "accuracy": (
        "",
        "correct / asked; failed and unanswered ones are not correct; none unless every one is graded, and none where "
        "answers were made to have a length",
    ),
    "goodput_share": ("", "requests within the experiment's SLO on TTFVT and TPOT / asked; failed ones are not"),
    "tps": (
        "tokens/s",
        "output tokens of successful requests / (last finish - first arrival); sums over repeats",
    ),
    "straggler_share": (
        "",
        "share of a batch's time with fewer than half of its requests running; mean of batches",
    ),
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
    "goodput_rate": ("requests/s", "requests within the SLO / (last finish - first arrival); sums over repeats"),
    "energy": ("J", "increase of the devices' energy counters from the first sample to the last; sum over repeats"),
    **{
        name: ("", f"{gate.text}; the largest of the repeats") for name, gate in GATES.items() if name != "failed_share"
    },
    "invalid": ("", "why the point is beyond a validity gate, in words; missing when it is not"),
    "duration": ("s", "wall time of the point as its run recorded it; sum over repeats"),
}
WITH_INTERVAL = [
    *RATIOS,
    *_spread(LATENCIES, ["mean", *LATENCY_SHARES]),
    *_spread(TOKENS, ["mean", *TOKEN_SHARES]),
]
WITH_INTERVAL += [f"{name}_mean" for name in GAUGES]


def _columns(keys: Sequence[str]) -> list[str]:
    wide = [[m, f"{m}_low", f"{m}_high"] if m in WITH_INTERVAL else [m] for m in METRICS]
    return [*keys, *(column for group in wide for column in group)]


class _Row(dict[str, Any]):
    def put(self, name: str, estimate: Estimate) -> None:
        self[name], self[f"{name}_low"], self[f"{name}_high"] = estimate

    def spread(
        self,
        name: str,
        values: pd.Series,
        cluster: Codes,
        shares: dict[str, float],
        weights: Array | None = None,
    ) -> None:
        x = values.to_numpy(dtype=float)
        self.put(f"{name}_mean", mean(x, cluster, weights))
        found = quantiles(x, cluster, list(shares.values()), weights)
        for stat, estimate in zip(shares, found, strict=True):
            self.put(f"{name}_{stat}", estimate)


@dataclass(frozen=True)
class Slo:
    """What users are promised: the first visible token after at most `ttfvt_s`, then one every `tpot_ms` on average."""

    ttfvt_s: float
    tpot_ms: float

    def met(self, frame: pd.DataFrame) -> pd.Series:
        """Which requests (rows of `latencies`) met it; one of a single token has no TPOT to miss."""
        paced = (frame["tpot"] * 1000 <= self.tpot_ms) | (frame["tpot"].isna() & frame["ok"])
        return (frame["ttfvt"] <= self.ttfvt_s) & paced


def _per_request(row: _Row, group: pd.DataFrame, cluster: Codes, slo: Slo | None) -> None:
    """Everything that needs no more than the requests' own rows."""
    ok = group["ok"]
    row |= {"asked": len(group), "ok": ok.sum(), "failed": (~ok).sum()}
    row |= {"questions": group["question_id"].nunique(), "repeats": group["repeat"].nunique()}
    shares = {"failed_share": ~ok, "answered_share": group["answered"]}
    shares["truncated_share"] = ok & (group["finish_reason"] == "length")
    if slo is not None:
        within = slo.met(group)
        shares["goodput_share"] = within
        spans = group.groupby("repeat").agg(start=("arrival", "min"), end=("end", "max"))
        seconds = (spans["end"] - spans["start"]).sum()
        row["goodput_rate"] = within.sum() / seconds if seconds > 0 else np.nan
    if ok.any() and group["correct"].notna().all() and group["asked_tokens"].isna().all():
        shares["accuracy"] = group["correct"]
        row |= {f"miss_{miss.replace('-', '_')}": (group["miss"] == miss).mean() for miss in MISSES}
    for name, hit in shares.items():
        row.put(name, mean(hit.to_numpy(dtype=float), cluster))
    for name in LATENCIES.keys() - {"tbt"}:
        row.spread(name, group[name], cluster, LATENCY_SHARES)
    for name in TOKENS:
        row.spread(name, group[name].where(ok), cluster, TOKEN_SHARES)


def _per_token(row: _Row, group: pd.DataFrame, chunks: pd.DataFrame, cluster: Codes) -> None:
    """Time between tokens, throughput and stragglers. chunks: those of the group's successful requests."""
    gaps = token_gaps(chunks)
    row.spread("tbt", gaps["gap"], cluster[gaps["row"]], LATENCY_SHARES, gaps["tokens"].to_numpy())
    tps = throughput(group, chunks)
    if tps is not None:
        row.put("tps", ratio(*tps))
        if group["load"].iloc[0].startswith("batch"):
            shares = batches(group)["straggler_share"].to_numpy()
            row.put("straggler_share", mean(shares, codes(np.arange(len(shares)))))


def throughput(group: pd.DataFrame, chunks: pd.DataFrame) -> Sums | None:
    """Tokens, seconds and number of each batch (batch loads) or of each equal block of time (other loads).

    group: rows of `latencies` of one condition; chunks: `token_chunks` of its successful requests. None where
    throughput would be made of nothing but errors, or of requests whose tokens nobody counted.
    """
    if not group["ok"].any() or group.loc[group["ok"], "output_tokens"].isna().any():
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
    point = group.groupby("repeat").agg(start=("arrival", "min"), end=("end", "max")).dropna()
    number = point.index.get_indexer(pd.Index(group["repeat"]))
    start, end = (point[name].to_numpy()[number] for name in ("start", "end"))
    row, tokens = chunks["row"].to_numpy(), chunks["tokens"].to_numpy()
    shown = np.bincount(row, tokens, len(group))
    count = group["output_tokens"].where(group["ok"]).fillna(0).to_numpy()
    # A request that showed no chunk of tokens counts at its end.
    silent = np.flatnonzero((shown == 0) & (count > 0))
    shown[silent] = count[silent]
    row, time = np.append(row, silent), np.append(chunks["time"], group["end"].to_numpy()[silent])
    tokens = np.append(tokens, count[silent]) * count[row] / shown[row]
    block = gauges.time_blocks(time, number[row], start[row], end[row])
    length = np.repeat((point["end"] - point["start"]).to_numpy() / gauges.BLOCKS, gauges.BLOCKS)
    return np.bincount(block, tokens, len(length)).astype(float), length, codes(np.arange(len(length)))


def graded(
    requests: pa.Table, grades: pd.DataFrame | None, columns: Sequence[str] = ("correct", "miss")
) -> pd.DataFrame:
    """`latencies` with columns of grades.parquet: `correct` (float, NaN where there is no grade), `miss`, ..."""
    frame = latencies(requests)
    if grades is None:
        return frame.assign(correct=np.nan, miss=None)
    keys = [name for name in [*SERVER, *CONDITION, "repeat", "index"] if name in grades.columns]
    found = grades[[*keys, *columns]].astype({"correct": float})
    return frame.merge(found, on=keys, how="left", validate="one_to_one")


def _groups(
    frame: pd.DataFrame, keys: list[str], slo: Slo | None = None
) -> Iterator[tuple[_Row, pd.DataFrame, Codes, Codes]]:
    """Row with its keys, requests, their positions in the frame, their cluster."""
    for key, found in frame.groupby(keys, sort=True).indices.items():
        rows = np.asarray(found)
        group = frame.take(rows).reset_index(drop=True)
        row, cluster = _Row(zip(keys, cast(tuple[Any, ...], key), strict=True)), codes(group["question_id"])
        _per_request(row, group, cluster, slo)
        yield row, group, rows, cluster


Frame = pd.DataFrame | None
Run = Mapping[str, Any] | None


def _joined(reasons: pd.Series) -> Any:
    return "; ".join(dict.fromkeys(reasons.dropna())) or None


def recorded(run: Run, point: list[str]) -> pd.DataFrame:
    """What run.json has of each group of points, by the keys `point`: duration, the numbers of GATES, invalid."""
    rows = [{**entry, **entry.get("validity", {})} for entry in (run or {}).get("points", [])]
    names = [name for name in GATES if name != "failed_share"]
    table = pd.DataFrame(rows, columns=[*point, "duration_s", *names, "invalid"]).rename(
        columns={"duration_s": "duration"}
    )
    grouped = table.astype(dict.fromkeys(["duration", *names], float)).groupby(point)
    found = grouped[names].max()
    found["duration"] = grouped["duration"].sum(min_count=1)
    found["invalid"] = grouped["invalid"].agg(_joined)
    return found


def _table(
    requests: pa.Table, grades: Frame, server: Frame, run: Run, keys: list[str], slo: Slo | None
) -> pd.DataFrame:
    point = [name for name in keys if name in ("dataset", "load", "budget", "repeat")]
    told = recorded(run, point)
    samples: dict[Any, pd.DataFrame] = {} if server is None else dict(tuple(server.groupby(point)))
    lists, rows = requests.select(CHUNKS), []
    for row, group, index, cluster in _groups(graded(requests, grades), keys, slo):
        chunks = token_chunks(lists.take(pa.array(index)))
        _per_token(row, group, chunks[group["ok"].to_numpy()[chunks["row"]]], cluster)
        key = tuple(row[name] for name in point)
        row |= gauges.use(samples[key]) if key in samples else {}
        row |= told.loc[key].to_dict() if key in told.index else {}
        rows.append(row)
    return pd.DataFrame(rows, columns=_columns(keys))


def points(
    requests: pa.Table, grades: Frame = None, server: Frame = None, run: Run = None, slo: Slo | None = None
) -> pd.DataFrame:
    """One row a point of one run: keys (SERVER, CONDITION, repeat) and METRICS with intervals.

    requests: table from `requests.read`; grades, server: grades.parquet and server.parquet as frames; run:
    run.json; slo: for goodput. What is not given leaves its metrics NaN.
    """
    return _table(requests, grades, server, run, [*SERVER, *CONDITION, "repeat"], slo)


def summary(
    requests: pa.Table, grades: Frame = None, server: Frame = None, run: Run = None, slo: Slo | None = None
) -> pd.DataFrame:
    """One row a condition of one run, its repeats pooled; otherwise as `points`."""
    return _table(requests, grades, server, run, [*SERVER, *CONDITION], slo)


def breakdown(requests: pa.Table, grades: Frame, by: str, run: Run = None) -> pd.DataFrame:
    """One row a condition of one run and value of `by` ("difficulty" or "domain"), repeats pooled.

    Columns: keys, `by`, and METRICS; throughput, TBT, stragglers, server metrics and duration do not hold for
    a part of a point and are NaN.
    """
    keys = [*SERVER, *CONDITION, by]
    point = ["dataset", "load", "budget"]
    reasons = recorded(run, point)["invalid"]
    rows = []
    for row, *_ in _groups(graded(requests, grades), keys):
        rows.append({**row, "invalid": reasons.get(tuple(row[name] for name in point))})
    return pd.DataFrame(rows, columns=_columns(keys))
