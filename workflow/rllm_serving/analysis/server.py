"""What the server's samples say of a condition: KV-cache use and queue lengths over time, preemptions.

Samples may be unevenly spaced: each weighs half the time to its neighbours (trapezoid rule) within its point.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from .bootstrap import Array, Codes, codes, mean, quantiles

BLOCKS = 20
GAUGES = {"kv": "kv_use", "running": "running", "waiting": "waiting"}


def time_weights(samples: pd.DataFrame) -> Array:
    """Seconds that each sample stands for; samples sorted by repeat and time. Equal where there is one a point."""
    gap = np.diff(samples["time"].to_numpy(dtype=float))
    gap[np.diff(samples["repeat"].to_numpy()) != 0] = 0
    weight = (np.append(gap, 0) + np.insert(gap, 0, 0)) / 2
    return weight if weight.sum() > 0 else np.ones(len(samples))


def time_blocks(time: Array, point: Codes, start: Array, end: Array) -> Codes:
    """Number of the block that each time lies in; all arguments have shape (n,).

    Point number `point`, which runs from start to end (s), owns the blocks from point * BLOCKS on, equal in length.
    """
    span = np.where(end > start, end - start, 1.0)
    block = np.clip(np.floor((time - start) / span * BLOCKS), 0, BLOCKS - 1)
    return (point * BLOCKS + block).astype(np.int64)


def use(samples: pd.DataFrame) -> dict[str, float]:
    """Server metrics of a condition from its rows of server.parquet (any number of repeats); NaN where unknown.

    {kv,running,waiting}_{mean,max}: time-weighted mean, with _low/_high (bootstrap over BLOCKS equal time blocks a
    point), and maximum. kv_p5, kv_p95: time-weighted quantiles; kv_swing = kv_p95 - kv_p5. KV use is a share (0..1),
    running and waiting are requests. preemptions: increase of the server's counter between first and last sample.
    """
    result: dict[str, float] = {}
    samples = samples.sort_values(["repeat", "time"], kind="stable")
    for name, column in GAUGES.items():
        seen = samples[samples[column].notna()]
        value = seen[column].to_numpy(dtype=float)
        estimate = [np.nan] * 3
        if len(seen):
            weight = time_weights(seen)
            time = seen.groupby("repeat")["time"]
            start, end = (time.transform(edge).to_numpy(dtype=float) for edge in ("min", "max"))
            block = time_blocks(seen["time"].to_numpy(dtype=float), codes(seen["repeat"]), start, end)
            estimate = [*mean(value, codes(block), weight)]
            if name == "kv":
                shares = quantiles(value, codes(block), (0.05, 0.95), weight, interval=False)
                result |= {"kv_p5": shares[0].value, "kv_p95": shares[1].value}
                result["kv_swing"] = result["kv_p95"] - result["kv_p5"]
        result |= dict(zip((f"{name}_mean", f"{name}_mean_low", f"{name}_mean_high"), estimate, strict=True))
        result[f"{name}_max"] = value.max() if len(seen) else np.nan
    counter = samples.loc[samples["preemptions"].notna(), ["repeat", "preemptions"]].astype(float)
    if len(counter) > 1:
        # A counter that falls was reset: what it lost is unknown, what it gains afterwards counts.
        result["preemptions"] = counter.groupby("repeat")["preemptions"].diff().clip(lower=0).sum()
    return result
