"""KV-cache occupancy from the client's side: the tokens that running requests hold, from chunks and their times.

A request holds its prompt from its first token on, and each token it produces from the chunk that brought it, until
it has ended, well or not. Before its first token it counts as waiting, though its prefill fills the cache by then; one
that the server preempts goes on counting. Prefixes are counted once a request: where a prefix cache lets requests share
blocks, this is an upper bound of what the pool holds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from .intervals import Array
from .server_metrics import under_load

STATISTICS = ("mean", "max", "p5", "p95", "swing")


@dataclass(frozen=True)
class Occupancy:
    """Tokens held during a point: held[i] from edges[i] to edges[i + 1] (s from the point's start, ascending).

    edges: shape (n + 1,), from the first arrival to when the last request was over; held: shape (n,).
    """

    edges: Array
    held: Array

    def at(self, times: Array) -> Array:
        """Tokens held at each of `times` (s); 0 outside the point's span. Shape of `times`."""
        place = np.searchsorted(self.edges, times, side="right") - 1
        inside = (place >= 0) & (place < len(self.held))
        return np.where(inside, self.held[np.where(inside, place, 0)], 0.0)

    def statistics(self) -> dict[str, float]:
        """STATISTICS over time, in tokens: mean, largest, 5 % and 95 % quantiles, and swing = p95 - p5."""
        seconds = np.diff(self.edges)
        order = np.argsort(self.held)
        upto = np.cumsum(seconds[order])
        low, high = (float(self.held[order[np.searchsorted(upto, q * upto[-1] * (1 - 1e-9))]]) for q in (0.05, 0.95))
        mean = float(self.held @ seconds / seconds.sum())
        values = (mean, float(self.held[order[-1]]), low, high, high - low)
        return dict(zip(STATISTICS, values, strict=True))


def occupancy(frame: pd.DataFrame, chunks: pd.DataFrame) -> Occupancy | None:
    """What the requests of one point held over time; None where that is not known.

    A request whose chunks show fewer tokens than the server counted has them scaled to that count, as for throughput.

    Args:
        frame: rows of `request_metrics.latencies` of one point, with `closed`.
        chunks: `Chunks.take` of all these rows, failed ones included.

    Returns:
        The step function. None without any request that was over, or where a request with a first token has no prompt
        tokens, no end, or no chunk with tokens.
    """
    first, closed, prompt = (frame[name].to_numpy(dtype=float) for name in ("first_token", "closed", "prompt_tokens"))
    start, end = frame["arrival"].min(), frame["closed"].max()
    row, time, tokens = (chunks[name].to_numpy() for name in ("row", "time", "tokens"))
    # Of a chunk without a count the tokens are among those of the others, once these are scaled to the request's.
    tokens = np.nan_to_num(tokens.astype(float))
    total = np.bincount(row, tokens, len(frame))
    ran = ~np.isnan(first)
    unknown = ran & (np.isnan(prompt) | np.isnan(closed) | ~(total > 0))
    if unknown.any() or not end > start:
        return None
    told = frame["output_tokens"].where(frame["completed"]).to_numpy(dtype=float)
    scale = np.divide(told, total, out=np.ones(len(frame)), where=ran & ~np.isnan(told))
    if (scale != 1).any():
        tokens, total = tokens * scale[row], total * scale
    times = np.concatenate([first[ran], time, closed[ran]])
    steps = np.concatenate([prompt[ran], tokens, -(prompt + total)[ran]])
    # Each request's chunks are in order already, which a stable sort makes use of.
    order = np.argsort(times, kind="stable")
    edges = np.concatenate([[start], times[order], [end]])
    held = np.concatenate([[0.0], np.cumsum(steps[order])])
    # Of what happens at one time, only the outcome lasts.
    lasting = np.diff(edges) > 0
    return Occupancy(np.append(edges[:-1][lasting], end), held[lasting])


def condition_summary(
    frame: pd.DataFrame, chunks: pd.DataFrame, samples: pd.DataFrame | None, pool_tokens: float | None
) -> dict[str, float]:
    """Return `kv_summary` and kv_gauge_difference of several points.

    Means and the difference are weighted by the points' time, of maxima the largest is taken, the rest is averaged.

    Args:
        frame: rows of `request_metrics.latencies` of one condition.
        chunks: `Chunks.take` of all these rows.
        samples: rows of server.parquet of the condition; None: none were taken.
        pool_tokens: see `kv_summary`.
    """
    rows, seconds = [], []
    for repeat, positions in frame.groupby("repeat", sort=True).indices.items():
        place = np.full(len(frame), -1)
        place[positions] = np.arange(len(positions))
        own = chunks.assign(row=place[chunks["row"].to_numpy()])
        held = occupancy(frame.iloc[positions].reset_index(drop=True), own[own["row"] >= 0])
        sampled = pd.DataFrame() if samples is None else samples[samples["repeat"] == repeat]
        difference = gauge_difference(held, sampled, pool_tokens) if len(sampled) else np.nan
        rows.append({**kv_summary(held, pool_tokens), "kv_gauge_difference": difference})
        seconds.append(np.nan if held is None else held.edges[-1] - held.edges[0])
    table, weight = pd.DataFrame(rows), np.array(seconds)
    result = table.mean().to_dict()
    for name in (name for name in map(str, table) if name.endswith(("_mean", "difference"))):
        known = table[name].notna() & np.isfinite(weight)
        result[name] = float(np.average(table[name][known], weights=weight[known])) if known.any() else np.nan
    return result | table.filter(like="_max").max().to_dict()


def kv_summary(held: Occupancy | None, pool_tokens: float | None) -> dict[str, float]:
    """Statistics of `occupancy` over a point: kv_held_tokens_* and, of the pool, kv_held_share_*; * is of STATISTICS.

    pool_tokens: the pool's size (`kv_cache_tokens` of the run's options); None: not known, shares are NaN. Shares may
    be above 1 where prefixes are shared. All NaN where `held` is None.
    """
    tokens = dict.fromkeys(STATISTICS, np.nan) if held is None else held.statistics()
    pool = np.nan if pool_tokens is None else pool_tokens
    result = {f"kv_held_tokens_{name}": value for name, value in tokens.items()}
    return result | {f"kv_held_share_{name}": value / pool for name, value in tokens.items()}


def gauge_difference(held: Occupancy | None, samples: pd.DataFrame, pool_tokens: float | None) -> float:
    """Mean absolute difference between client's occupancy and server's gauge, as a share of the pool: a check.

    samples: the point's rows of server.parquet; those taken under load that have `kv_cache_usage` count alike. The
    server counts whole blocks, and what it prefills. NaN without such samples, or where `held` or the pool is None.
    """
    loaded = under_load(samples, "kv_cache_usage")
    if held is None or pool_tokens is None or loaded.empty:
        return np.nan
    share = held.at(loaded["time"].to_numpy(dtype=float)) / pool_tokens
    return float(np.abs(share - loaded["kv_cache_usage"].to_numpy(dtype=float)).mean())
