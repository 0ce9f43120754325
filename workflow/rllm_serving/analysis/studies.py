"""Two studies side by side: the same servers under the same conditions, then and now.

Engines, machines and code may differ, for that is the question. Compared is what has the same keys, serving options,
sampling, seed and questions; all else is listed with the reason. Times, rates and gauges are compared by the starts of
both studies, each with the noise of its own; what a model says question by question where both studies know it, else by
the standard errors of both intervals.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from .comparison import LATENCIES, PER_START, RATES, TOKENS, margin_of
from .intervals import (
    LEVEL,
    MISSING,
    NO_ESTIMATE,
    Estimate,
    Interval,
    from_log,
    paired_difference,
    paired_log_ratio,
)
from .metric import ENDS
from .noise import NoiseTable, difference, on_scale
from .points import noise_table
from .request_metrics import CONDITION, SERVER
from .results_folder import StudyResults
from .verdicts import COLUMNS as JUDGED
from .verdicts import judged, with_verdicts

KEYS = [*SERVER, *CONDITION]
SAME = ("method", "options", "sampling", "seed", "thinking", "reasoning_parser")
"""Keys of a run's config that must be the same, as far as both studies have them."""
FROM_STARTS = {
    **{name: f"{name}_mean" for name in LATENCIES},
    **{name: PER_START[name] for name in ("output_throughput", "kv_cache_usage", "running")},
}
"""Metric -> its column in `points.Tables.starts`."""
SIDES = ("then", "now")
VALUES = [f"{part}{end}" for part in (*SIDES, "ratio", "difference") for end in ENDS]
COLUMNS = [*KEYS, "metric", *VALUES, "how", "starts_then", "starts_now", "error", "df", *JUDGED, "invalid"]
PAIRED, UNPAIRED, STARTS = "paired by question", "unpaired", "starts"
ALIKE = "the same for every question"
CLAIM = ["claim", "hypothesis", "pair", "engine", "dataset", "role", "candidate"]
_PER_CAPACITY = re.compile(r"^(open|trace)-[\d.e-]+x-")


class Change(NamedTuple):
    """How a metric changed: both values, the effect (of RATES the difference, else the log of the ratio), and how."""

    then: Interval
    now: Interval
    effect: Estimate
    how: str


def compare(then: StudyResults, now: StudyResults, margins: Mapping[str, float]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compare what both studies measured.

    Args:
        then: the older study.
        now: the newer one.
        margins: the config's `analysis.margins`.

    Returns:
        A row a server, condition and metric: KEYS, metric; then, now and their change (`difference` of RATES, `ratio`
        now / then of others), each with _low and _high; how it was compared; starts of both; standard error and
        degrees of freedom of the effect; columns of `verdicts.with_verdicts`; invalid. And what is not compared:
        KEYS, reason.
    """
    matched, unmatched = match(then, now)
    noise = tuple(
        {name: noise_table(part) for name, part in study.starts.groupby("experiment")} for study in (then, now)
    )
    starts = tuple(_by_condition(study.starts) for study in (then, now))
    said = tuple(_by_condition(study.questions) for study in (then, now))
    rows = []
    for row in matched.to_dict("records"):
        key = tuple(row[name] for name in KEYS)
        questions = [side[key].set_index("question_id") if key in side else None for side in said]
        timed = _timed(row, [side.get(key) for side in starts], [side.get(row["experiment"]) for side in noise])
        for metric, change in (*_said(row, questions), *timed):
            rows.append({**{name: row[name] for name in KEYS}, **_columns(row, metric, change, margins)})
    return with_verdicts(pd.DataFrame(rows, columns=COLUMNS)), unmatched


def _by_condition(frame: pd.DataFrame) -> dict[tuple[Any, ...], pd.DataFrame]:
    return {tuple(key): part for key, part in frame.groupby(KEYS, sort=False)} if len(frame) else {}


def match(then: StudyResults, now: StudyResults) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return what may be compared; and what may not: KEYS and the reason.

    The first has a row a server and condition: KEYS, and the columns of both summaries with `_then` and `_now`.
    """
    sides = [
        study.summary.rename(columns={name: f"{name}_{side}" for name in study.summary if name not in KEYS})
        for study, side in zip((then, now), SIDES, strict=True)
    ]
    both = sides[0].merge(sides[1], on=KEYS, how="outer", indicator="found", validate="one_to_one")
    configs = [
        {tuple(record["server"][name] for name in SERVER): record["config"] for record in study.records}
        for study in (then, now)
    ]
    reasons = [_reason(row, configs) for row in both.to_dict("records")]
    refused = np.array([reason is not None for reason in reasons], dtype=bool)
    unmatched = both.loc[refused, KEYS].assign(reason=[reason for reason in reasons if reason])
    return both[~refused].drop(columns="found"), unmatched.reset_index(drop=True)


def _reason(row: Mapping[Any, Any], configs: Sequence[Mapping[tuple[Any, ...], Any]]) -> str | None:
    """Say why a condition may not be compared; None where it may."""
    if row["found"] != "both":
        return f"only {'then' if row['found'] == 'left_only' else 'now'}"
    if _PER_CAPACITY.match(row["load"]):
        return "its load is a share of a capacity that each study measures for itself"
    server = tuple(row[name] for name in SERVER)
    for side, known in zip(SIDES, configs, strict=True):
        if server not in known:
            return f"no run.json {side}"
    found = [*changed_keys(configs[0][server], configs[1][server]), *_asked(row)]
    return "; ".join(found) or None


def changed_keys(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say which keys of SAME two runs' configs differ in; what one of them has not is not asked about."""
    found = []
    for key in SAME:
        if key not in then or key not in now:
            continue
        before, after = ({key: side[key]} for side in (then, now))
        if isinstance(then[key], Mapping) and isinstance(now[key], Mapping):
            before, after = ({f"{key}.{name}": value for name, value in side[key].items()} for side in (then, now))
        found += [
            f"{name}: {before[name]} then, {after[name]} now"
            for name in sorted(before.keys() & after.keys())
            if before[name] != after[name]
        ]
    return found


def _asked(row: Mapping[Any, Any]) -> list[str]:
    numbers = {
        "questions": [row[f"num_questions_{side}"] for side in SIDES],
        "requests a point": [row[f"num_requests_{side}"] / row[f"points_{side}"] for side in SIDES],
    }
    found = [f"{name}: {a:g} then, {b:g} now" for name, (a, b) in numbers.items() if a != b]
    derived = [pd.notna(row.get(f"derived_from_{side}", row.get("derived_from"))) for side in SIDES]
    if derived[0] != derived[1]:
        found.append(
            f"its budget was measured {SIDES[derived[0]]} alone, and derived from a larger one in the other study"
        )
    return found


def _said(row: Mapping[Any, Any], questions: Sequence[pd.DataFrame | None]) -> Iterator[tuple[str, Change]]:
    """Yield the changes of what a model says; questions: `results_folder.by_question` of both, by question_id."""
    aligned = _aligned(questions)
    for metric in (*RATES, *TOKENS):
        column = metric if metric in RATES else f"{metric}_mean"
        sides = [Interval(*(row.get(f"{column}{end}_{side}", np.nan) for end in ENDS)) for side in SIDES]
        if not all(np.isfinite(side.value) for side in sides):
            continue
        if aligned is None:
            how, effect = UNPAIRED, _unpaired(metric, sides, [row[f"num_questions_{side}"] - 1 for side in SIDES])
        else:
            # As many rows a question as requests of it, as if these had been paired: they share their question's mean.
            requests = np.minimum(*(side["requests"].to_numpy(dtype=int) for side in aligned))
            question = np.repeat(np.arange(len(requests)), requests)
            then, now = (side[metric].to_numpy(dtype=float)[question] for side in aligned)
            paired = paired_difference if metric in RATES else paired_log_ratio
            effect = paired(now, then, question)
            # Without any variance there is no verdict; this says more.
            how = ALIKE if effect.value == effect.error == 0 else PAIRED
        yield metric, Change(sides[0], sides[1], effect, how)


def _aligned(questions: Sequence[pd.DataFrame | None]) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """Return both in the same order of questions; None where these are not the same, or not known."""
    then, now = questions
    if then is None or now is None or set(then.index) != set(now.index):
        return None
    return then, now.loc[then.index]


def _unpaired(metric: str, sides: Sequence[Interval], df: Sequence[float]) -> Estimate:
    """Estimate a change from both intervals: those of shares are Wilson's, those of lengths t intervals of logs."""
    ends = np.array(sides, dtype=float)
    upper = (1 + LEVEL) / 2
    reach = np.full(len(sides), stats.norm.ppf(upper)) if metric in RATES else stats.t.ppf(upper, df)
    if metric not in RATES:
        if not (ends[:, 0] > 0).all():
            return NO_ESTIMATE
        ends = np.log(ends)
    errors = (ends[:, 2] - ends[:, 1]) / 2 / reach
    return Estimate(float(ends[1, 0] - ends[0, 0]), float(np.hypot(*errors)), float(min(df)))


def _timed(
    row: Mapping[Any, Any], starts: Sequence[pd.DataFrame | None], noise: Sequence[NoiseTable | None]
) -> Iterator[tuple[str, Change]]:
    """Yield the changes of times, rates and gauges; starts: those of the condition; noise: of its experiment."""
    condition = [row[name] for name in CONDITION]
    for metric, column in FROM_STARTS.items():
        sides = []
        for part, table in zip(starts, noise, strict=True):
            if part is None or table is None or column not in part:
                continue
            logs = on_scale(part[column].to_numpy(dtype=float), linear=False)
            logs = logs[np.isfinite(logs)]
            if len(logs):
                sides.append((float(logs.mean()), len(logs), table.of(column, row["engine"], row["model"], condition)))
        if len(sides) < len(SIDES):
            continue
        alone = [from_log(Estimate(mean, of.error(count), of.df)) for mean, count, of in sides]
        effect = difference([(*sides[1], 1), (*sides[0], -1)], same_pool=False)
        how = STARTS
        if metric == "ttfvt" and (horizons := _horizons(row)):
            effect, how = NO_ESTIMATE, horizons
        yield metric, Change(alone[0], alone[1], effect, how)


def _horizons(row: Mapping[Any, Any]) -> str:
    """Say why the means of two TTFVT are no means of the same; empty where they are."""
    upto = [row[f"ttfvt_horizon_{side}"] for side in SIDES]
    if all(row[f"answered_rate_{side}"] == 1 for side in SIDES) or np.isclose(*upto):
        return ""
    return f"not compared: some ended without an answer, and the mean goes to {upto[0]:.3g} s then, {upto[1]:.3g} s now"


def _columns(row: Mapping[Any, Any], metric: str, change: Change, margins: Mapping[str, float]) -> dict[str, Any]:
    rate = metric in RATES
    found = change.effect.interval() if rate else from_log(change.effect)
    parts = {"then": change.then, "now": change.now, "ratio": MISSING, "difference": MISSING}
    parts["difference" if rate else "ratio"] = found
    reasons = [f"{side}: {row[f'invalid_{side}']}" for side in SIDES if isinstance(row.get(f"invalid_{side}"), str)]
    return {
        "metric": metric,
        **{f"{part}{end}": value for part, ends in parts.items() for end, value in zip(ENDS, ends, strict=True)},
        "how": change.how,
        **{f"starts_{side}": row.get(f"starts_{side}") for side in SIDES},
        "error": change.effect.error,
        "df": change.effect.df,
        **judged(change.effect, margin_of(metric, margins)),
        "invalid": "; ".join(reasons) or None,
    }


def changed_verdicts(then: StudyResults, now: StudyResults) -> pd.DataFrame:
    """Return the comparisons within both studies whose verdict is another now, of servers that may be compared.

    Columns: basis, SERVER, against, CONDITION, metric; verdict, ratio and difference (with _low and _high), each with
    `_then` and `_now`.
    """
    keys = ["basis", *SERVER, "against", *CONDITION, "metric"]
    values = ["verdict", *(f"{part}{end}" for part in ("ratio", "difference") for end in ENDS)]
    columns = [*keys, *(f"{name}_{side}" for name in values for side in SIDES)]
    if then.comparisons.empty or now.comparisons.empty:
        return pd.DataFrame(columns=columns)
    before, after = (study.comparisons[[*keys, *values]] for study in (then, now))
    both = before.merge(after, on=keys, suffixes=("_then", "_now"))
    matched = {tuple(key) for key in match(then, now)[0][KEYS].to_numpy()}
    if both.empty:
        return both.reindex(columns=columns)
    baseline = both.copy()
    baseline[["engine", "quantization", "setup"]] = both["against"].str.split("/", expand=True)
    conditions = [[tuple(key) for key in side[KEYS].to_numpy()] for side in (both, baseline)]
    known = [{one, other} <= matched for one, other in zip(*conditions, strict=True)]
    differs = both["verdict_then"].fillna("") != both["verdict_now"].fillna("")
    return both.loc[differs & np.array(known, dtype=bool), columns].reset_index(drop=True)


def changed_claims(then: StudyResults, now: StudyResults) -> pd.DataFrame:
    """Return the hypotheses whose verdict is another now: CLAIM; verdict and effect of both, with interval ends.

    Those that only one study has are there with one verdict. Empty where a study has no claims.
    """
    values = ["verdict", *(f"effect{end}" for end in ENDS)]
    columns = [*CLAIM, *(f"{name}_{side}" for name in values for side in SIDES)]
    if then.claims is None or now.claims is None:
        return pd.DataFrame(columns=columns)
    wide = [claims[[*CLAIM, *values]].astype(dict.fromkeys(CLAIM, object)) for claims in (then.claims, now.claims)]
    both = wide[0].merge(wide[1], on=CLAIM, how="outer", suffixes=("_then", "_now"))
    differs = both["verdict_then"].fillna("") != both["verdict_now"].fillna("")
    return both.loc[differs, columns].reset_index(drop=True)
