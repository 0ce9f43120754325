"""Why a run is slower or faster than another: the change of E2E in parts that add up, and what the servers counted.

A request's E2E is TTFT + decode time, decode time = (n - 1) x TPOT for n output tokens. Between a request (1) and the
same request of the baseline (0), each factor's share is taken at the mean of the other, so that neither goes first
(the Shapley value of two factors):

    queue_and_prefill = ttft1 - ttft0                    queue and prefill
    tokens      = (n1 - n0) (tpot1 + tpot0) / 2          thinking + answer, in proportion to the tokens of each
    speed       = (tpot1 - tpot0) (n1 + n0 - 2) / 2      slower or faster tokens

With fewer than two output tokens TPOT is undefined: the other side's is used (or 0), which attributes the change to the
token count. Time for which the stream stayed open behind a single token belongs to `speed`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from .counters import COUNTERS, counter_summary
from .intervals import Array, Codes, Estimate, estimate, from_log, mean, paired_log_ratio
from .noise import MIN_DF, MIN_STARTS
from .pairing import conditions, with_validity
from .request_metrics import CONDITION, SERVER
from .says import interval_columns
from .server_data import START, ServerData

PARTS = ["queue_and_prefill", "thinking", "answer", "speed"]
"""Parts of `delta_e2e_latency`: they add up to it."""
TIMES = ["delta_e2e_latency", *PARTS, "tokens"]
ESTIMATES = [*TIMES, "thinking_difference", "thinking_ratio"]
UNPAIRED = ["e2e_latency", "thinking_tokens", *COUNTERS]


def decompose(candidate: ServerData, baseline: ServerData) -> pd.DataFrame:
    """One row a condition that both servers measured.

    Columns: SERVER (of the candidate), `against` (the baseline's engine/quantization/setup), CONDITION, `requests`
    (those completed on both sides, of which all means are), `starts`, ESTIMATES with _low and _high, TIMES with
    _variance, and UNPAIRED, each also with _baseline.
    TIMES: delta_e2e_latency, PARTS (see the module) and tokens (= thinking + answer): mean of candidate - baseline, s;
    _variance: between the means of the starts; `with_intervals` makes intervals of it. thinking_difference (candidate -
    baseline, tokens) and thinking_ratio (candidate / baseline): of the mean thinking length, intervals over questions.
    e2e_latency (s), thinking_tokens: means. COUNTERS: see `counter_summary`. NaN where there is none; thinking and
    answer are NaN where thinking was not counted.

    Raises:
        ValueError: when the two did not ask the same questions.
    """
    rows = []
    for keys, sides, cluster in conditions(candidate, baseline):
        if not np.isnan(keys["derived_from"]):
            continue  # what was cut has no times
        row = {**keys, **_split(sides[0].requests, sides[1].requests, cluster)}
        for end, side, server in zip(("", "_baseline"), sides, (candidate, baseline), strict=True):
            counts = counter_summary(
                side.samples, side.requests, side.chunks, server.records[0] if server.records else {}
            )
            row |= {name + end: value for name, value in counts.items()}
        rows.append(row)
    estimates = [name + end for name in ESTIMATES for end in ("", "_low", "_high")]
    estimates += [f"{name}_variance" for name in TIMES]
    plain = [name + end for name in UNPAIRED for end in ("", "_baseline")]
    frame = pd.DataFrame(rows, columns=[*SERVER, "against", *CONDITION, "requests", "starts", *estimates, *plain])
    return with_validity(frame, candidate, baseline)


def with_intervals(frame: pd.DataFrame) -> pd.DataFrame:
    """Fill _low and _high of TIMES: Student's t, variances pooled over the comparisons of a model on an engine.

    Args:
        frame: rows of `decompose` of one experiment; loses the columns _variance.
    """
    pool = [frame[name] for name in ("engine", "model", *CONDITION)]
    for name in TIMES:
        known = frame[f"{name}_variance"].notna()
        df = (frame["starts"] - 1).where(known)
        pooled_df = df.groupby(pool).transform("sum")
        variance = (frame[f"{name}_variance"] * df).groupby(pool).transform("sum") / pooled_df
        enough = known & (pooled_df >= MIN_DF)
        error = (variance / frame["starts"]).pow(0.5).where(enough)
        found = [Estimate(*row).interval() for row in zip(frame[name], error, pooled_df.where(enough), strict=True)]
        frame[f"{name}_low"], frame[f"{name}_high"] = [x.low for x in found], [x.high for x in found]
    return frame.drop(columns=[f"{name}_variance" for name in TIMES])


def _split(candidate: pd.DataFrame, baseline: pd.DataFrame, cluster: Codes) -> dict[str, Any]:
    """Everything of a row that comes from requests; both sides' requests of one condition in the same order."""
    needed = ["ttft", "e2e_latency", "output_tokens"]
    used = pd.concat(
        [side["completed"] & side[needed].notna().all(axis=1) for side in (candidate, baseline)], axis=1
    ).all(axis=1)
    one, two = candidate.where(used), baseline.where(used)
    row: dict[str, Any] = {"requests": int(used.sum())}
    split = pd.DataFrame(
        {name: _nan_unless_all_known(values, used.to_numpy()) for name, values in parts(one, two).items()}
    )
    starts = split.groupby([candidate[name] for name in START]).mean().dropna(how="all")
    row |= {"starts": len(starts)} | {name: float(split[name].mean()) for name in TIMES}
    if len(starts) >= MIN_STARTS:
        row |= {f"{name}_variance": float(starts[name].to_numpy().var(ddof=1)) for name in TIMES}
    e2e_latency = [side["e2e_latency"].mean() for side in (one, two)]
    row |= dict(zip(("e2e_latency", "e2e_latency_baseline"), e2e_latency, strict=True))
    thinking = _known_on_both_sides(one["reasoning_tokens"], two["reasoning_tokens"])
    means = [mean(side, cluster).value for side in thinking]
    row |= dict(zip(("thinking_tokens", "thinking_tokens_baseline"), means, strict=True))
    row |= interval_columns("thinking_difference", estimate(thinking[0] - thinking[1], cluster).interval())
    return row | interval_columns("thinking_ratio", from_log(paired_log_ratio(*thinking, cluster)))


def parts(candidate: pd.DataFrame, baseline: pd.DataFrame) -> dict[str, Array]:
    """delta_e2e_latency, PARTS and tokens of each request, s; rows of `latencies`, in the same order."""

    def change(name: str) -> Array:
        return candidate[name].to_numpy(dtype=float) - baseline[name].to_numpy(dtype=float)

    delta, first = change("e2e_latency"), change("ttft")
    tpot = [side["tpot"].to_numpy(dtype=float) for side in (candidate, baseline)]
    filled = [np.where(np.isfinite(own), own, np.nan_to_num(other)) for own, other in (tpot, tpot[::-1])]
    step = (filled[0] + filled[1]) / 2
    tokens, thinking = change("output_tokens") * step, change("reasoning_tokens") * step
    # What remains is (tpot1 - tpot0) (n1 + n0 - 2) / 2, and with a single token what came behind it.
    speed = delta - first - tokens
    result = {"delta_e2e_latency": delta, "queue_and_prefill": first, "thinking": thinking, "answer": tokens - thinking}
    return result | {"speed": speed, "tokens": tokens}


def _nan_unless_all_known(values: Array, used: Any) -> Array:
    """The values, all NaN as soon as one of the used requests has none: parts must have the same requests."""
    return np.full(len(values), np.nan) if np.isnan(values[used]).any() else values


def _known_on_both_sides(candidate: pd.Series, baseline: pd.Series) -> tuple[Array, Array]:
    """The values of both sides where both have one, else NaN."""
    known = (candidate.notna() & baseline.notna()).to_numpy()
    left, right = (np.where(known, side.to_numpy(dtype=float), np.nan) for side in (candidate, baseline))
    return left, right
