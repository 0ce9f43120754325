"""Metrics of how fast a server answers, as plain numbers: of a point, of a start, of all starts of a server.

Their intervals come from the starts, see `noise`. What can't be computed is missing, never 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from . import survival
from .intervals import NEEDED, Array, weighted_quantiles
from .metrics import LATENCIES, LATENCY_SHARES
from .request_metrics import batches, point_spans, token_gaps


@dataclass(frozen=True)
class Slo:
    """What users are promised: the first visible token after at most `ttfvt_s`, then one every `tpot_ms` on average."""

    ttfvt_s: float
    tpot_ms: float

    def known(self, frame: pd.DataFrame) -> bool:
        """Whether it is known of every request (rows of `latencies`) if it was met: visible tokens were counted."""
        unpaced = frame["answered"] & frame["answer_tokens"].isna() & (frame["ttfvt"] <= self.ttfvt_s)
        return not unpaced.any()

    def met(self, frame: pd.DataFrame) -> pd.Series:
        """Which requests (rows of `latencies`) met it; one of a single visible token has no pace to miss."""
        paced = (frame["visible_tpot"] * 1000 <= self.tpot_ms) | ((frame["answer_tokens"] < 2) & frame["completed"])
        return (frame["ttfvt"] <= self.ttfvt_s) & paced


def metrics(
    group: pd.DataFrame, chunks: pd.DataFrame | None, slo: Slo | None, horizon: float | None
) -> dict[str, float]:
    """Return the metrics of METRICS that are times or rates, without intervals.

    Args:
        group: rows of `ServerData.frame` of one condition.
        chunks: `Chunks.take` of the completed ones; None for a part of the questions, which has no throughput, ITL, SLO
            or stragglers of its own.
        slo: for slo_attainment and goodput.
        horizon: up to which the mean TTFVT is taken (s), see `ttfvt_horizon`; None: the group's own.
    """
    row: dict[str, float] = {}
    for name in (name for name in LATENCIES if name not in ("ttfvt", "itl", "icl")):
        values = group[name].to_numpy(dtype=float)
        row |= _spread(name, values, np.ones(len(values)))
    row |= _first_visible(group, ttfvt_horizon([group]) if horizon is None else horizon)
    if chunks is None:
        return row
    gaps = token_gaps(chunks)
    # How many tokens a chunk had need not be known; that it came is.
    for name, column, weight in (("itl", "itl", gaps["tokens"].to_numpy()), ("icl", "gap", np.ones(len(gaps)))):
        row |= _spread(name, gaps[column].to_numpy(), weight)
    span = float(point_spans(group)["seconds"].sum())
    if slo is not None and slo.known(group):
        within = slo.met(group)
        row |= {"slo_attainment": float(within.mean()), "goodput": within.sum() / span if span > 0 else np.nan}
    row["output_throughput"] = _throughput(group, span)
    if group["load"].iloc[0].startswith("batch"):
        tails = batches(group)[["straggler_time_fraction", "last_quarter_time_fraction"]]
        row |= {str(name): float(value) for name, value in tails.mean().items()}
    return row


def _spread(name: str, values: Array, weights: Array) -> dict[str, float]:
    """Mean and quantiles, `{name}_{statistic}`."""
    known = np.isfinite(values) & (weights > 0)
    if not known.any():
        return {}
    values, weights = values[known], weights[known]
    row = {f"{name}_mean": float((values * weights).sum() / weights.sum())}
    found = weighted_quantiles(values, weights, list(LATENCY_SHARES.values()))
    return row | {f"{name}_{statistic}": value for statistic, value in zip(LATENCY_SHARES, found, strict=True)}


def has_enough(metric: str, requests: int) -> bool:
    """Whether so many requests are enough for an interval of a metric, which may be a far quantile."""
    statistic = metric.rpartition("_")[2]
    return requests >= NEEDED.get(LATENCY_SHARES.get(statistic, 0.5), 0)


def _ended_after(group: pd.DataFrame) -> tuple[Array, Array]:
    """TTFVT of each request, and how long it lasted, answered or not (s); failed ones have neither."""
    return group["ttfvt"].to_numpy(dtype=float), group["e2e_latency"].to_numpy(dtype=float)


def ttfvt_horizon(groups: list[pd.DataFrame]) -> float:
    """Return the latest time up to which the TTFVT of each group (point) of a condition is known (s)."""
    known, longest = [], []
    for group in groups:
        time, until = _ended_after(group)
        longest.append(survival.observed_up_to(time, until))
        _, upto = survival.kaplan_meier(time, until)
        # Where everybody answered, nothing is unknown at any time.
        known.append(np.inf if len(upto) and upto[-1] > 1 - 1e-9 else longest[-1])
    horizon = min(known, default=np.nan)
    return float(horizon if np.isfinite(horizon) else max(longest, default=np.nan))


def _first_visible(group: pd.DataFrame, horizon: float) -> dict[str, float]:
    time, until = _ended_after(group)
    row = {"ttfvt_mean": survival.restricted_mean(time, until, horizon), "ttfvt_horizon": horizon}
    found = survival.quantiles(time, until, list(LATENCY_SHARES.values()))
    return row | {f"ttfvt_{name}": value for name, value in zip(LATENCY_SHARES, found, strict=True)}


def _throughput(group: pd.DataFrame, span: float) -> float:
    """Tokens of completed requests / span (s); NaN where it would be made of errors, or tokens were not counted."""
    tokens = group.loc[group["completed"], "output_tokens"]
    if tokens.empty or tokens.isna().any() or not span > 0:
        return np.nan
    return float(tokens.sum() / span)
