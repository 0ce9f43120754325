"""Intervals for times, rates and gauges: the starts of a server are the units.

All requests of a start share its mood (where its processes lie, what else the machine does), so a start is one draw,
however many requests it answers. A statistic is taken per start; the logs of these have a variance, pooled over the
servers of an engine in an experiment, for a handful of starts alone tell too little of it. Intervals are Student's t
with the pool's degrees of freedom; benchmarks/coverage.py shows how often they cover a known truth. A server with one
start has none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from .intervals import MISSING, NO_ESTIMATE, Array, Estimate, Interval, from_log

MIN_STARTS = 2
"""Of a server, for an interval."""
MIN_DF = 2
"""Degrees of freedom of a variance, for an interval."""
ENOUGH_DF = 4
"""Degrees of freedom from which the servers of one model are a pool of their own; with fewer, all models are one."""


class Noise(NamedTuple):
    """How much a statistic differs from start to start.

    Attributes:
        variance: of the statistic on its scale (log or linear), of a single start.
        df: its degrees of freedom.
        servers: servers that it is pooled over.
    """

    variance: float
    df: float
    servers: int

    def error(self, starts: int) -> float:
        """Standard error of the mean of so many starts; NaN where they are too few."""
        enough = starts >= MIN_STARTS and self.df >= MIN_DF
        return float(np.sqrt(self.variance / starts)) if enough else np.nan


_SERVER = ["model", "quantization", "setup"]
"""Name a server of an engine."""
UNKNOWN = Noise(np.nan, 0, 0)


def on_scale(values: Array, linear: bool) -> Array:
    """Return the values on the scale that they are averaged on; NaN where that is the log and they are not positive."""
    values = np.asarray(values, dtype=float)
    return values if linear else np.log(np.where(values > 0, values, np.nan))


def pooled(groups: Sequence[Array]) -> Noise:
    """Pool the variance within groups: each holds the starts of one server; NaN is left out."""
    squares, df, servers = 0.0, 0, 0
    for group in groups:
        known = group[np.isfinite(group)]
        if len(known) >= MIN_STARTS:
            squares += float(np.square(known - known.mean()).sum())
            df += len(known) - 1
            servers += 1
    return Noise(squares / df, df, servers) if df else UNKNOWN


def _two_way(servers: Sequence[pd.Series]) -> Noise:
    """Residual variance of servers x starts, each series a server's values by start; without starts that one lacks."""
    table = pd.DataFrame([server.groupby(level=0).mean() for server in servers]).dropna(axis=1)
    df = (table.shape[0] - 1) * (table.shape[1] - 1)
    if df < 1:
        return UNKNOWN
    values = table.to_numpy()
    residual = values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + values.mean()
    return Noise(float(np.square(residual).sum() / df), df, len(servers))


class NoiseTable:
    """The noise of each metric and condition of one experiment.

    Args:
        starts: a row a start of a server and condition: columns engine, model, quantization, setup, start, `condition`
            and the metrics.
        condition: columns that say what was asked of the server.
        linear: metrics whose starts are averaged as they are; the others' logs are.
    """

    def __init__(self, starts: pd.DataFrame, condition: Sequence[str], linear: Sequence[str]) -> None:
        self._condition, self._linear = list(condition), set(linear)
        self._groups = {
            key if isinstance(key, tuple) else (key,): [part for _, part in frame.groupby(_SERVER, sort=True)]
            for key, frame in starts.groupby(["engine", *self._condition], sort=True)
        }
        self._known: dict[tuple[object, ...], Noise] = {}

    def of(self, metric: str, engine: str, model: str, condition: Sequence[object]) -> Noise:
        """Return the noise of a metric on an engine under a condition: of the model's servers, or of all."""
        key = (metric, engine, model, *condition)
        if key not in self._known:
            own = self.own(metric, engine, model, condition)
            servers = self._groups.get((engine, *condition), [])
            self._known[key] = own if own.df >= ENOUGH_DF else self._pool(metric, servers)
        return self._known[key]

    def own(self, metric: str, engine: str, model: str, condition: Sequence[object]) -> Noise:
        """Return the noise of a metric pooled over the servers of a model alone."""
        return self._pool(metric, self._of_model(engine, model, condition))

    def _of_model(self, engine: str, model: str, condition: Sequence[object]) -> list[pd.DataFrame]:
        servers = self._groups.get((engine, *condition), [])
        return [part for part in servers if part["model"].iloc[0] == model]

    def between(self, metric: str, engine: str, model: str, condition: Sequence[object]) -> Noise:
        """Return the noise of a difference between servers of one model, which share what start k has in common.

        Start k of every server has the same requests and seeds, and comes in the same block of the study: that part is
        taken out (two-way analysis of variance without replication, Scheffe 1959, ch. 4). With too few servers and
        starts for it, it is `of`.
        """
        key = ("between", metric, engine, model, *condition)
        if key not in self._known:
            found = _two_way(
                [
                    pd.Series(on_scale(part[metric].to_numpy(), metric in self._linear), part["start"].to_numpy())
                    for part in self._of_model(engine, model, condition)
                ]
            )
            self._known[key] = found if found.df >= ENOUGH_DF else self.of(metric, engine, model, condition)
        return self._known[key]

    def _pool(self, metric: str, servers: Sequence[pd.DataFrame]) -> Noise:
        return pooled([on_scale(part[metric].to_numpy(), metric in self._linear) for part in servers])

    def interval(self, metric: str, starts: Array, engine: str, model: str, condition: Sequence[object]) -> Interval:
        """Interval of what a metric is in a typical start: the mean, of logs the geometric one; or none.

        Args:
            metric: of a server.
            starts: its value in each start of that server.
            engine: of the server.
            model: of the server.
            condition: what was asked of it.
        """
        linear = metric in self._linear
        known = on_scale(starts, linear)
        known = known[np.isfinite(known)]
        if not len(known):
            return MISSING
        noise = self.of(metric, engine, model, condition)
        found = Estimate(float(known.mean()), noise.error(len(known)), noise.df)
        return found.interval() if linear else from_log(found)


def noise_floor(starts: pd.DataFrame, condition: Sequence[str], metrics: Mapping[str, str]) -> pd.DataFrame:
    """How much the starts of one and the same server differ: a row an engine and model.

    Columns: experiment, engine, model, `starts` (of the server with the most), and of each metric `noise_{name}`: the
    standard deviation of the log of its starts, i.e. a relative one; its square is pooled over servers and averaged
    over conditions. NaN where no server was started twice.

    Args:
        starts: `points.Tables.starts` of one experiment.
        condition: columns that say what was asked of a server.
        metrics: name -> column of `starts`.
    """
    table = NoiseTable(starts, condition, [])
    rows = []
    for (experiment, engine, model), part in starts.groupby(["experiment", "engine", "model"], sort=True):
        row: dict[str, Any] = {"experiment": experiment, "engine": engine, "model": model}
        row["starts"] = part.groupby([*_SERVER, *condition]).size().max()
        conditions = part[list(condition)].drop_duplicates().itertuples(index=False)
        keys = [tuple(key) for key in conditions]
        for name, column in metrics.items():
            variances = np.array([table.own(column, str(engine), str(model), key).variance for key in keys])
            known = variances[np.isfinite(variances)]
            row[f"noise_{name}"] = float(np.sqrt(known.mean())) if len(known) else np.nan
        rows.append(row)
    return pd.DataFrame(rows)


def difference(sides: Sequence[tuple[float, int, Noise, int]], same_pool: bool) -> Estimate:
    """Estimate a sum of signed means over starts, each with the noise of its server.

    Args:
        sides: of each term its mean on the metric's scale, number of starts, noise and sign (1 or -1).
        same_pool: whether the noises are one and the same estimate; if not, degrees of freedom are those of
            Satterthwaite (1946).

    Returns:
        Estimate on the metric's scale.
    """
    value = float(sum(sign * mean for mean, _, _, sign in sides))
    if not np.isfinite(value):
        return NO_ESTIMATE
    parts = [noise.error(starts) ** 2 for _, starts, noise, _ in sides]
    total = float(sum(parts))
    if not np.isfinite(total):
        return Estimate(value, np.nan, np.nan)
    if same_pool:
        df = float(sides[0][2].df)
    else:
        below = sum(part**2 / noise.df for part, (_, _, noise, _) in zip(parts, sides, strict=True))
        df = total**2 / below if below > 0 else float(min(noise.df for _, _, noise, _ in sides))
    return Estimate(value, float(np.sqrt(total)), df)
