"""What the server's samples say of a condition: KV-cache use and queue lengths over time, preemptions.

Samples may be unevenly spaced: each weighs half the time to its neighbours (trapezoid rule) within its point.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from .intervals import Array, weighted_quantiles
from .metrics import GAUGES

MIN_SAMPLES = 20
"""Under load, of a point whose gauges are to mean something."""


def time_weights(samples: pd.DataFrame) -> Array:
    """Seconds each sample stands for, equal if there is one a point; samples sorted by repeat and time."""
    gap = np.diff(samples["time"].to_numpy(dtype=float))
    gap[np.diff(samples["repeat"].to_numpy()) != 0] = 0
    weight = (np.append(gap, 0) + np.insert(gap, 0, 0)) / 2
    return weight if weight.sum() > 0 else np.ones(len(samples))


def under_load(samples: pd.DataFrame, column: str) -> pd.DataFrame:
    """The samples taken while the load lasted that have a value, sorted by repeat and time."""
    loaded: pd.DataFrame = samples[samples["in_window"] & samples[column].notna()]
    return loaded.sort_values(["repeat", "time"], kind="stable")


def gauge_summary(samples: pd.DataFrame) -> dict[str, float]:
    """Server metrics of a condition from its rows of server.parquet (any number of repeats).

    Gauges are described by the samples taken while the load lasted, of points with MIN_SAMPLES of them; counters by
    all.

    {kv_cache_usage,running,waiting}_{mean,max}: time-weighted mean, and maximum. kv_cache_usage_p5, kv_cache_usage_p95:
    time-weighted quantiles; kv_cache_usage_swing = kv_cache_usage_p95 - kv_cache_usage_p5. KV use is a share (0..1),
    running and waiting are requests. gauge_samples: of the point with the fewest. preemptions: see
    `counter_delta`; energy (J): see `_energy`. A gauge without enough samples has no entry.
    """
    samples = samples.sort_values(["repeat", "time"], kind="stable")
    result = {"gauge_samples": _fewest(samples)}
    for name in GAUGES:
        loaded = under_load(samples, name)
        loaded = loaded[loaded.groupby("repeat")["time"].transform("size") >= MIN_SAMPLES]
        if loaded.empty:
            continue
        value, weight = loaded[name].to_numpy(dtype=float), time_weights(loaded)
        result |= {f"{name}_mean": float(np.average(value, weights=weight)), f"{name}_max": value.max()}
        if name == "kv_cache_usage":
            low, high = weighted_quantiles(value, weight, [0.05, 0.95])
            result |= {"kv_cache_usage_p5": low, "kv_cache_usage_p95": high, "kv_cache_usage_swing": high - low}
    counters = {"preemptions": counter_delta(samples, "preemptions")}
    return result | counters | {"energy": _energy(samples)}


def _energy(samples: pd.DataFrame) -> float:
    """`unbroken_delta` of the GPUs' counters (J); of the host's where there are none of GPUs."""
    gpus = "device_energy_j" in samples and samples["device_energy_j"].notna().any()
    return unbroken_delta(samples, "device_energy_j" if gpus else "host_energy_j")


def _fewest(samples: pd.DataFrame) -> float:
    gauges = [name for name in GAUGES if name in samples]
    loaded = samples[samples["in_window"] & samples[gauges].notna().any(axis=1)]
    return float(loaded.groupby("repeat").size().reindex(samples["repeat"].unique(), fill_value=0).min())


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
