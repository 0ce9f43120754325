"""What the server's samples say of a condition: KV-cache use and queue lengths over time, preemptions.

Samples may be unevenly spaced: each weighs half the time to its neighbours (trapezoid rule) within its point.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from .intervals import Array, Codes, Sums, quantiles, ratio
from .metrics import GAUGES

BLOCKS = 20


def time_weights(samples: pd.DataFrame) -> Array:
    """Seconds each sample stands for, equal if there is one a point; samples sorted by repeat and time."""
    gap = np.diff(samples["time"].to_numpy(dtype=float))
    gap[np.diff(samples["repeat"].to_numpy()) != 0] = 0
    weight = (np.append(gap, 0) + np.insert(gap, 0, 0)) / 2
    return weight if weight.sum() > 0 else np.ones(len(samples))


def time_blocks(time: Array, point: Codes, start: Array, end: Array) -> Codes:
    """Number of the block that each time lies in; all arguments have shape (n,).

    Point number `point`, from start to end (s), owns the BLOCKS equal blocks from number point * BLOCKS on.
    """
    share = (time - start) / np.where(end > start, end - start, 1.0)
    return point * BLOCKS + np.clip(np.floor(share * BLOCKS), 0, BLOCKS - 1).astype(np.int64)


def under_load(samples: pd.DataFrame, column: str) -> pd.DataFrame:
    """The samples taken while the load lasted that have a value, sorted by repeat and time."""
    loaded: pd.DataFrame = samples[samples["in_window"] & samples[column].notna()]
    return loaded.sort_values(["repeat", "time"], kind="stable")


def sums(samples: pd.DataFrame, column: str) -> Sums | None:
    """Value x seconds, seconds and block of each sample under load: their ratio is the time-weighted mean.

    Block: one of BLOCKS equal blocks of time a point, point number = repeat. None without samples.
    """
    loaded = under_load(samples, column)
    if loaded.empty:
        return None
    weight = time_weights(loaded)
    point = loaded.groupby("repeat")["time"]
    start, end = (np.asarray(point.transform(edge), dtype=np.float64) for edge in ("min", "max"))
    block = time_blocks(loaded["time"].to_numpy(dtype=float), loaded["repeat"].to_numpy(dtype=np.int64), start, end)
    return loaded[column].to_numpy(dtype=float) * weight, weight, block


def gauge_summary(samples: pd.DataFrame) -> dict[str, float]:
    """Server metrics of a condition from its rows of server.parquet (any number of repeats).

    Gauges are described by the samples taken while the load lasted; counters by all.

    {kv_cache_usage,running,waiting}_{mean,max}: time-weighted mean, with _low/_high (bootstrap over BLOCKS equal time
    blocks a point), and maximum. kv_cache_usage_p5, kv_cache_usage_p95: time-weighted quantiles; kv_cache_usage_swing
    = kv_cache_usage_p95 - kv_cache_usage_p5. KV use is a share (0..1), running and waiting are requests. preemptions:
    see `counter_delta`; energy (J): see `unbroken_delta`. A gauge without samples has no entry.
    """
    result: dict[str, float] = {}
    samples = samples.sort_values(["repeat", "time"], kind="stable")
    for name in GAUGES:
        parts = sums(samples, name)
        if parts is None:
            continue
        value = under_load(samples, name)[name].to_numpy(dtype=float)
        estimate, block = ratio(*parts), parts[2]
        result |= {f"{name}_mean": estimate.value, f"{name}_max": value.max()}
        result |= {f"{name}_mean_low": estimate.low, f"{name}_mean_high": estimate.high}
        if name == "kv_cache_usage":
            low, high = (share.value for share in quantiles(value, block, [0.05, 0.95], parts[1]))
            result |= {"kv_cache_usage_p5": low, "kv_cache_usage_p95": high, "kv_cache_usage_swing": high - low}
    counters = {"preemptions": counter_delta(samples, "preemptions")}
    return result | counters | {"energy": unbroken_delta(samples, "device_energy_j")}


def counter_delta(samples: pd.DataFrame, column: str) -> float:
    """What a counter of the server gained between a point's first and last sample, summed over points.

    In the column's unit; NaN where no point has two samples of it.
    """
    if column not in samples:
        return np.nan
    counted = samples[samples[column].notna()].sort_values(["repeat", "time"], kind="stable")
    # A counter that falls was reset: what it lost is unknown, what it gains afterwards counts.
    gains = counted[column].astype(float).groupby(counted["repeat"]).diff().clip(lower=0)
    return float(gains.sum(min_count=1))


def unbroken_delta(samples: pd.DataFrame, column: str) -> float:
    """As `counter_delta`, but NaN as soon as any point has a sample without the counter, or one at which it fell.

    What a counter gained across a gap or a reset nobody knows, and a part of a point's gain is no measure of it.
    """
    if column not in samples:
        return np.nan
    ordered = samples.sort_values(["repeat", "time"], kind="stable")
    counted = ordered[column].astype(float).groupby(ordered["repeat"])
    gains = counted.last() - counted.first()
    broken = counted.agg(lambda values: len(values) < 2 or bool((values.isna() | (values.diff() < 0)).any()))
    return float(gains.mask(broken.astype(bool)).sum(skipna=False))
