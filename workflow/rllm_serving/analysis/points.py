"""Metrics of points, starts and servers. `metrics.METRICS` holds unit and definition of every column.

A point is one repeat, a start pools its repeats, the summary of a condition pools the starts of a server. What a model
says has intervals over questions at each level; times, rates and gauges have theirs over starts, so only the summary
has them (see `noise`); rates of correct answers have theirs over both (see `worth`). Points beyond a validity gate are
left out of starts and summary, and counted. What can't be computed is missing, never 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..schemas import OWN_ENGINES
from . import kv_occupancy, says, server_metrics, timing, worth
from .gates import CLIENT_GATES
from .intervals import MISSING, Codes, Interval, codes, share
from .metrics import METRICS
from .noise import NoiseTable
from .question_table import question_table
from .request_metrics import CONDITION, POINT, SERVER, as_slice_if_contiguous
from .server_data import START, ServerData
from .timing import Slo

FROM_STARTS = [name for name, metric in METRICS.items() if metric.units == "starts"]
LINEAR = [name for name in FROM_STARTS if METRICS[name].linear]


class Tables(NamedTuple):
    """What is known of an experiment's servers, a row of keys, `controlled` and METRICS each.

    controlled: whether the server was started by the workflow; one that already ran has sessions for starts.

    derived_from is the budget that a row's answers were cut from (tokens), missing where they were measured: derived
    rows have what a model says, and neither times, rates nor gauges.

    Attributes:
        points: SERVER, START, CONDITION, repeat.
        starts: SERVER, START, CONDITION.
        summary: SERVER, CONDITION.
        difficulty: SERVER, CONDITION, difficulty; without what does not hold for a part of the questions.
        domain: likewise by domain.
        questions: SERVER, CONDITION, question; its columns are those of `question_table`.
    """

    points: pd.DataFrame
    starts: pd.DataFrame
    summary: pd.DataFrame
    difficulty: pd.DataFrame
    domain: pd.DataFrame
    questions: pd.DataFrame


def experiment_tables(
    servers: Iterable[ServerData],
    slo: Slo | None = None,
    horizon_s: float | None = None,
    price_per_hour: float | None = None,
) -> Tables:
    """Return the tables of all servers of one experiment.

    Args:
        servers: one after the other, each read when it is needed.
        slo: for slo_attainment and goodput.
        horizon_s: up to which the mean TTFVT is taken; None: as far as every point of the condition knows it.
        price_per_hour: dollars, of a GPU or, on CPU, of a machine; for correct_per_dollar.
    """
    points, starts, summary, questions = [], [], [], []
    parts: dict[str, list[pd.DataFrame]] = {"difficulty": [], "domain": []}
    part_starts: dict[str, list[pd.DataFrame]] = {"difficulty": [], "domain": []}
    for every in servers:
        server = every.valid()
        made: dict[Any, dict[str, Any]] = {}
        devices = every.devices(price_per_hour)
        points.append(_table(every, [*START, *CONDITION, "repeat"], slo, horizon_s, devices, made))
        starts.append(_table(server, [*START, *CONDITION], slo, horizon_s, devices, made))
        summary.append(_table(server, CONDITION, slo, horizon_s, devices, made))
        questions.append(question_table(server))
        for by, frames in parts.items():
            of_parts: dict[Any, dict[str, Any]] = {}
            frames.append(_table(server, [*CONDITION, by], None, horizon_s, devices, of_parts))
            part_starts[by].append(_table(server, [*START, *CONDITION, by], None, horizon_s, devices, of_parts))
    return Tables(
        points=pd.concat(points, ignore_index=True),
        starts=pd.concat(starts, ignore_index=True),
        summary=_with_start_intervals(pd.concat(summary), pd.concat(starts), CONDITION),
        **{
            by: _with_start_intervals(pd.concat(frames), pd.concat(part_starts[by]), [*CONDITION, by])
            for by, frames in parts.items()
        },
        questions=pd.concat(questions, ignore_index=True),
    )


def start_table(server: ServerData, slo: Slo | None = None, horizon_s: float | None = None) -> pd.DataFrame:
    """Return the rows of one server in `Tables.starts`; arguments as of `experiment_tables`."""
    return _table(server.valid(), [*START, *CONDITION], slo, horizon_s, server.devices(), {})


def noise_table(starts: pd.DataFrame) -> NoiseTable:
    """Return how much each metric differs between the starts of a condition's servers; starts: as in `Tables`."""
    return NoiseTable(starts, CONDITION, LINEAR)


def _with_start_intervals(summary: pd.DataFrame, starts: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Fill the intervals of FROM_STARTS, of what each is in a typical start, and those that rest on both."""
    noise = NoiseTable(starts, keys, LINEAR)
    of_server = {_tuple(key): part for key, part in starts.groupby([*SERVER, *keys], sort=False)}
    rows: list[dict[str, Any]] = [dict(row) for _, row in summary.iterrows()]
    for row in rows:
        condition = [row[name] for name in keys]
        own = of_server[tuple(row[name] for name in (*SERVER, *keys))]
        for name in FROM_STARTS:
            found = MISSING
            if timing.has_enough(name, row["completed"]):
                found = noise.interval(name, own[name].to_numpy(), row["engine"], row["model"], condition)
            row |= _bounded(name, found, row)
        row |= worth.with_both_intervals(row)
    return pd.DataFrame(rows, columns=summary.columns)


def _bounded(name: str, found: Interval, row: dict[str, Any]) -> dict[str, float]:
    """Ends of an interval; a share stays within 0 and 1, and is at least as uncertain as over its questions alone."""
    low, high = found.low, found.high
    if METRICS[name].linear and not np.isnan(low):
        low, high = max(0.0, low), min(1.0, high)
        if name == "slo_attainment":
            low, high = np.fmin(low, row[f"{name}_low"]), np.fmax(high, row[f"{name}_high"])
    return {f"{name}_low": low, f"{name}_high": high}


def _columns(keys: Sequence[str]) -> list[str]:
    wide = [[m, f"{m}_low", f"{m}_high"] if metric.units else [m] for m, metric in METRICS.items()]
    return [*keys, "derived_from", "controlled", *(column for group in wide for column in group)]


def _groups(server: ServerData, keys: list[str]) -> Iterator[tuple[dict[str, Any], pd.DataFrame, Codes, Codes]]:
    """Keys, requests, their positions in the frame, and the number of each one's question."""
    frame = server.frame
    question = codes(frame["question_id"].astype(str))
    for key, positions in frame.groupby(keys, sort=True).indices.items():
        rows = np.asarray(positions)
        part = as_slice_if_contiguous(rows)
        yield dict(zip(keys, _tuple(key), strict=True)), frame.iloc[part].reset_index(drop=True), rows, question[part]


def _tuple(key: Any) -> tuple[Any, ...]:
    return key if isinstance(key, tuple) else (key,)


def _horizons(server: ServerData, condition: Sequence[str], horizon_s: float | None) -> dict[Any, float]:
    if horizon_s is not None:
        return {}
    return {
        key: timing.ttfvt_horizon([point for _, point in part.groupby("repeat")])
        for key, part in server.frame[server.frame["derived_from"].isna()].groupby(list(condition), sort=True)
    }


def _table(
    server: ServerData,
    keys: list[str],
    slo: Slo | None,
    horizon_s: float | None,
    devices: worth.Devices,
    made: dict[Any, dict[str, Any]],
) -> pd.DataFrame:
    """Rows of all groups of requests; made: what is known of a condition's points, for a start may be a single one."""
    names: dict[str, Any] = dict(zip(SERVER, server.frame[SERVER].iloc[0], strict=True))
    names["controlled"] = names["engine"] in OWN_ENGINES
    condition = [name for name in keys if name not in (*START, "repeat")]
    is_whole = condition == CONDITION
    horizons = _horizons(server, condition, horizon_s)
    rows = []
    for key, group, positions, question in _groups(server, keys):
        of_condition = tuple(key[name] for name in condition)
        horizon, derived_from = horizons.get(of_condition, horizon_s), group["derived_from"].iloc[0]
        points = (*of_condition, horizon, *np.unique(group["repeat"]))
        if points not in made:
            made[points] = says.metrics(group, question)
            if is_whole and np.isnan(derived_from):
                made[points] |= _of_whole_points(server, key, group, positions, question, slo, horizon, devices)
            elif np.isnan(derived_from):
                made[points] |= timing.metrics(group, None, None, horizon)
        row = {**names, **key, "derived_from": derived_from, **made[points]}
        row |= _recorded(_rows(server.recorded, key, [name for name in POINT if name in key]), group)
        row["starts"] = group[START].drop_duplicates().shape[0]
        rows.append(row)
    return pd.DataFrame(rows, columns=_columns([*SERVER, *keys]))


def _of_whole_points(
    server: ServerData,
    key: dict[str, Any],
    group: pd.DataFrame,
    positions: Codes,
    question: Codes,
    slo: Slo | None,
    horizon: float | None,
    devices: worth.Devices,
) -> dict[str, Any]:
    """Metrics that hold for whole points alone: of streams, of the SLO, of the server's samples, of its devices."""
    chunks = server.chunks.take(positions, group["completed"].to_numpy())
    everything = chunks if group["completed"].all() else server.chunks.take(positions)
    row: dict[str, Any] = timing.metrics(group, chunks, slo, horizon)
    if slo is not None and slo.known(group):
        row |= says.interval_columns("slo_attainment", share(slo.met(group).to_numpy(dtype=float), question))
    samples = server.samples
    taken = None if samples is None else _rows(samples, key, [name for name in (*START, *POINT) if name in key])
    if taken is not None:
        row |= server_metrics.gauge_summary(taken)
    row |= kv_occupancy.condition_summary(group, everything, taken, server.pool_tokens)
    return row | worth.metrics(group, question, row.get("energy", np.nan), devices)


def _rows(table: pd.DataFrame, key: dict[str, Any], names: Sequence[str]) -> pd.DataFrame:
    chosen = np.ones(len(table), dtype=bool)
    for name in names:
        chosen &= (table[name] == key[name]).to_numpy()
    return table[chosen]


def _recorded(records: pd.DataFrame, group: pd.DataFrame) -> dict[str, Any]:
    """What run.json has of a group's points: the largest numbers of CLIENT_GATES, duration, why they are invalid."""
    taken = records[records["repeat"].isin(group["repeat"])]
    if taken.empty:
        return {"points": group["repeat"].nunique()}
    row: dict[str, Any] = {name: taken[name].max() for name in CLIENT_GATES}
    row |= {"points": len(taken), "duration": taken["duration"].sum(min_count=1)}
    left_out = records["invalid"].notna() & ~records["repeat"].isin(group["repeat"])
    row["invalid_points"] = int(taken["invalid"].notna().sum() + left_out.sum())
    return row | {"invalid": "; ".join(dict.fromkeys(taken["invalid"].dropna())) or None}
