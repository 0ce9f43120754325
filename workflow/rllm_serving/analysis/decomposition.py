"""Why a run is slower or faster than another: the change of E2E in parts that add up, and what the servers counted.

A request's E2E is TTFT + decode time, decode time = (n - 1) x TPOT for n output tokens. Between a request (1) and the
same request of the reference (0), each factor's share is taken at the mean of the other, so that neither goes first
(the Shapley value of two factors):

    first_token = ttft1 - ttft0                          queue and prefill
    tokens      = (n1 - n0) (tpot1 + tpot0) / 2          thinking + answer, in proportion to the tokens of each
    speed       = (tpot1 - tpot0) (n1 + n0 - 2) / 2      slower or faster tokens

Below two tokens there is no TPOT: that side takes the other's (0 where neither has one), so that tokens are the whole
reason; what time the stream stayed open behind a single token belongs to `speed`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from .comparison import conditions, with_validity
from .counters import COUNTERS, counter_summary
from .intervals import Array, Codes, Interval, means, paired_means
from .request_metrics import CONDITION, SERVER
from .run_data import RunData

PARTS = ["first_token", "thinking", "answer", "speed"]
"""Parts of `delta_e2e`: they add up to it."""
ESTIMATES = ["delta_e2e", *PARTS, "tokens", "thinking_difference", "thinking_ratio"]
UNPAIRED = ["e2e", "thinking_tokens", *COUNTERS]


def decompose(mine: RunData, reference: RunData) -> pd.DataFrame:
    """One row a condition of both runs.

    Columns: SERVER (of mine), `against` (the other's engine/quantization/setup), CONDITION, `requests` (those that
    ended well on both sides: all means are theirs), ESTIMATES with _low and _high, and PLAIN, each also with
    _reference.
    delta_e2e, PARTS (see the module) and tokens (= thinking + answer): mean of mine - reference, s; intervals: paired
    bootstrap over questions. thinking_difference (mine - reference, tokens) and thinking_ratio (mine / reference): of
    the mean thinking length. e2e (s), thinking_tokens: means. COUNTERS: see `counter_summary`. NaN where there is none;
    thinking and answer are NaN where thinking was not counted.
    Raises ValueError when the two did not ask the same questions.
    """
    rows = []
    for keys, both, cluster in conditions(mine, reference):
        row = {**keys, **_split(both[0].requests, both[1].requests, cluster)}
        for end, side, run in zip(("", "_reference"), both, (mine, reference), strict=True):
            found = counter_summary(side.samples, side.requests, side.chunks, run.record)
            row |= {name + end: value for name, value in found.items()}
        rows.append(row)
    estimates = [name + end for name in ESTIMATES for end in ("", "_low", "_high")]
    plain = [name + end for name in UNPAIRED for end in ("", "_reference")]
    frame = pd.DataFrame(rows, columns=[*SERVER, "against", *CONDITION, "requests", *estimates, *plain])
    return with_validity(frame, mine, reference)


def _split(mine: pd.DataFrame, reference: pd.DataFrame, cluster: Codes) -> dict[str, float]:
    """Everything of a row that comes from requests; both sides' requests of one condition in the same order."""
    needed = ["ttft", "e2e", "output_tokens"]
    used = pd.concat([side["ok"] & side[needed].notna().all(axis=1) for side in (mine, reference)], axis=1).all(axis=1)
    one, two = mine.where(used), reference.where(used)
    row: dict[str, float] = {"requests": int(used.sum())}
    split = {name: _nan_unless_all_known(values, used.to_numpy()) for name, values in parts(one, two).items()}
    for name, estimate in zip(split, means(list(split.values()), cluster), strict=True):
        row |= _interval_columns(name, estimate)
    both = [_known_on_both_sides(one[name], two[name]) for name in ("e2e", "reasoning_tokens")]
    e2e, thinking = paired_means([mine for mine, _ in both], [other for _, other in both], cluster)
    row |= {"e2e": e2e.value.value, "e2e_reference": e2e.reference.value}
    row |= {"thinking_tokens": thinking.value.value, "thinking_tokens_reference": thinking.reference.value}
    return (
        row
        | _interval_columns("thinking_difference", thinking.difference)
        | _interval_columns("thinking_ratio", thinking.ratio)
    )


def parts(mine: pd.DataFrame, reference: pd.DataFrame) -> dict[str, Array]:
    """delta_e2e, PARTS and tokens of each request, s; rows of `latencies`, the same request in the same place."""

    def change(name: str) -> Array:
        return mine[name].to_numpy(dtype=float) - reference[name].to_numpy(dtype=float)

    delta, first = change("e2e"), change("ttft")
    tpot = [side["tpot"].to_numpy(dtype=float) for side in (mine, reference)]
    known = [np.where(np.isfinite(one), one, np.nan_to_num(other)) for one, other in (tpot, tpot[::-1])]
    step = (known[0] + known[1]) / 2
    tokens, thinking = change("output_tokens") * step, change("reasoning_tokens") * step
    # What remains is (tpot1 - tpot0) (n1 + n0 - 2) / 2, and with a single token what came behind it.
    speed = delta - first - tokens
    result = {"delta_e2e": delta, "first_token": first, "thinking": thinking, "answer": tokens - thinking}
    return result | {"speed": speed, "tokens": tokens}


def _nan_unless_all_known(values: Array, used: Any) -> Array:
    """The values, all NaN as soon as one of the used requests has none: parts must have the same requests."""
    return np.full(len(values), np.nan) if np.isnan(values[used]).any() else values


def _known_on_both_sides(mine: pd.Series, reference: pd.Series) -> tuple[Array, Array]:
    """The values of both sides where both have one, else NaN."""
    known = (mine.notna() & reference.notna()).to_numpy()
    one, two = (np.where(known, side.to_numpy(dtype=float), np.nan) for side in (mine, reference))
    return one, two


def _interval_columns(name: str, estimate: Interval) -> dict[str, float]:
    return dict(zip((name, f"{name}_low", f"{name}_high"), estimate, strict=True))
