"""The effect that a hypothesis is about, with its standard error: a sum of signed cells.

What a model says: questions are the units. A cell is a mean over requests, of datasets that weigh the same in all cells
that have them; the contrast has the linearised (Taylor) standard error of stratified cluster sampling (Sarndal et al.
1992, ch. 5.5 and 3.7): questions are the clusters, which all cells share that ask them, datasets the strata. Times,
rates and gauges: starts are the units. Each start of a server gives one number, the signed mean over its conditions;
these differ from start to start by a noise that is pooled over the servers that measured the same (see
`analysis.noise`). So what conditions of one start have in common is in the error as it is, and nothing is taken for
independent that shares a start.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..analysis.intervals import MIN_CLUSTERS, Array, Estimate, further_pairs, variance_df
from ..analysis.noise import MIN_STARTS, Noise, NoiseTable, difference, on_scale
from .cells import CELL, SERVER_NAMES, Cell, NotTestedError, of_server
from .definitions import LENGTHS

VALUE = "value"


class Contrast(NamedTuple):
    """An effect on its scale (a difference, or the log of a ratio), and the units that it rests on.

    Attributes:
        effect: with standard error and degrees of freedom, NaN where there are too few units.
        units: questions, or starts of the server with the fewest.
        is_ratio: whether exp(effect) is a ratio.
    """

    effect: Estimate
    units: int
    is_ratio: bool


def of_questions(cells: Sequence[Cell], metric: str, questions: pd.DataFrame) -> Contrast:
    """Return the contrast of a metric of what a model says.

    Args:
        cells: of the hypothesis.
        metric: one of `definitions.SAID`.
        questions: rows of questions.parquet of the experiment.

    Raises:
        NotTestedError: when a cell has no value, e.g. because its answers are not graded.
    """
    is_ratio = metric in LENGTHS
    column = metric.removesuffix("_mean").removesuffix("_rate") if metric != "accuracy" else "correct"
    counted = "completed" if is_ratio else "requests"
    sums = [_sums_of_questions(cell, column, counted, metric, questions) for cell in cells]
    # Of all cells together: a dataset weighs as much in one as in the other, however many starts each has left of it.
    weights = pd.concat([bottoms for _, bottoms in sums]).groupby(level=0).sum()
    value, residuals = 0.0, []
    for cell, (tops, bottoms) in zip(cells, sums, strict=True):
        own = bottoms.groupby(level=0).sum()
        means = tops.groupby(level=0).sum() / own
        shares = weights[own.index] / weights[own.index].sum()
        mean = float((shares * means).sum())
        if is_ratio and not mean > 0:
            raise NotTestedError(f"{metric} of {'/'.join(cell.server)} is 0, which has no ratio")
        value += cell.sign * (float(np.log(mean)) if is_ratio else mean)
        dataset = bottoms.index.get_level_values(0)
        left = tops - bottoms * means[dataset].to_numpy()
        scale = mean if is_ratio else 1.0
        residuals.append(cell.sign * left * (shares / own)[dataset].to_numpy() / scale)
    table = pd.concat(residuals, axis=1).fillna(0.0).sum(axis=1)
    each = float(pd.concat([bottoms for _, bottoms in sums]).mean())
    effect = _stratified(value, table, len(cells) / 2, each, is_ratio)
    return Contrast(effect, len(table), is_ratio)


def _sums_of_questions(
    cell: Cell, column: str, counted: str, metric: str, questions: pd.DataFrame
) -> tuple[pd.Series, pd.Series]:
    """Sums of `column` and of `counted` of each question that a cell has answers to (index: dataset, question_id)."""
    rows = _rows(questions, cell).groupby(["dataset", "question_id"])[[column, counted]].sum(min_count=1)
    counts = rows[counted].groupby(level=0).sum()
    if rows.empty or rows[column].isna().any() or not (counts > 0).all():
        raise NotTestedError(f"{'/'.join(cell.server)} has no {metric}")
    return rows[column].astype(float), rows[counted].astype(float)


def _stratified(value: float, residuals: pd.Series, pairs: float, requests: float, is_ratio: bool) -> Estimate:
    """Estimate with the variance of its residuals, a value a question (index: dataset, question_id).

    pairs: terms / 2; requests: mean number a question and cell. Shares get the further pairs of Agresti and Min (2005),
    as `intervals.paired_difference` has them, so that answers that never differed do not pretend to an exact 0.
    """
    variance, below = 0.0, 0.0
    for _, stratum in residuals.groupby(level=0):
        z: Array = stratum.to_numpy(dtype=float)
        count = len(z)
        if count < MIN_CLUSTERS:
            return Estimate(value, np.nan, np.nan)
        squares = np.square(z - z.mean())
        own = float(count / (count - 1) * squares.sum())
        variance += own
        below += own**2 / variance_df(squares)
    df = variance**2 / below if below > 0 else len(residuals) - 1.0
    if not is_ratio:
        variance += pairs * further_pairs(len(residuals), requests)
    return Estimate(value, float(np.sqrt(variance)), float(df))


def of_starts(cells: Sequence[Cell], metric: str, is_linear: bool, starts: pd.DataFrame) -> Contrast:
    """Return the contrast of a metric of times, rates or gauges.

    Args:
        cells: of the hypothesis.
        metric: a column of `points.Tables.starts`.
        is_linear: whether its starts are averaged as they are; the logs of others are.
        starts: `points.Tables.starts` of the experiment, valid rows alone.

    Raises:
        NotTestedError: when no start of a server has all that is asked of it.
    """
    sides, noises, counts = [], [], []
    weights: dict[tuple[str, ...], dict[tuple[str, str, int], float]] = {}
    for cell in cells:
        own = weights.setdefault(cell.server, {})
        for condition in cell.conditions:
            own[condition] = own.get(condition, 0.0) + cell.sign / len(cell.conditions)
    for server, own in weights.items():
        kept = {condition: weight for condition, weight in own.items() if weight}
        sign = 1 if next(iter(kept.values())) > 0 else -1
        asked = {condition: sign * weight for condition, weight in kept.items()}
        mean, count, noise = _of_server(asked, server, weights, metric, is_linear, starts)
        noises.append(noise)
        counts.append(count)
        sides.append((mean, count, noise, sign))
    effect = difference(sides, same_pool=len(set(noises)) == 1)
    return Contrast(effect, min(counts), not is_linear)


def _of_server(
    asked: dict[tuple[str, str, int], float],
    server: tuple[str, ...],
    servers: Iterable[tuple[str, ...]],
    metric: str,
    is_linear: bool,
    starts: pd.DataFrame,
) -> tuple[float, int, Noise]:
    """Mean of a server's starts, their number, and their noise.

    Starts that lack a condition, for its point is invalid, are left out. Where too few are left, each condition is
    taken by itself; errors then add up as if all conditions were disturbed alike, which is the most that they can.
    """
    of_engine = starts[starts["engine"] == server[0]]
    table = _per_start(asked, metric, is_linear, of_engine)
    values = of_server(table, server)[VALUE].to_numpy(dtype=float)
    if len(values) >= MIN_STARTS or len(asked) == 1:
        if not len(values):
            raise NotTestedError(f"no start of {'/'.join(server)} has {metric} of all that is asked")
        return float(values.mean()), len(values), _noise(table, server, servers)
    parts = [
        (weight, *_of_server({condition: 1.0}, server, servers, metric, is_linear, starts))
        for condition, weight in asked.items()
    ]
    count = min(count for _, _, count, _ in parts)
    error = sum(abs(weight) * noise.error(count) for weight, _, count, noise in parts)
    noise = Noise(error**2 * count, min(noise.df for *_, noise in parts), min(noise.servers for *_, noise in parts))
    return float(sum(weight * mean for weight, mean, _, _ in parts)), count, noise


def _per_start(
    asked: dict[tuple[str, str, int], float], metric: str, is_linear: bool, starts: pd.DataFrame
) -> pd.DataFrame:
    """SERVER_NAMES, start, restart, VALUE: the weighted sum over conditions, of every start that has them all."""
    keys = [*SERVER_NAMES, "start", "restart"]
    weights = pd.DataFrame([(*condition, weight) for condition, weight in asked.items()], columns=[*CELL, "weight"])
    rows = starts[[*keys, *CELL, metric]].merge(weights, on=CELL)
    rows["part"] = rows["weight"] * on_scale(rows[metric].to_numpy(), is_linear)
    sums = rows.groupby(keys, sort=True)["part"].agg(["sum", "count"]).reset_index()
    whole = sums[sums["count"] == len(asked)]
    return whole[keys].assign(**{VALUE: whole["sum"].to_numpy()}).reset_index(drop=True)


def _noise(table: pd.DataFrame, server: tuple[str, ...], weights: Iterable[tuple[str, ...]]) -> Noise:
    """Noise of a server's starts; of a difference between servers of one model without what their starts share."""
    noise = NoiseTable(table, [], [VALUE])
    engine, model = server[:2]
    several = sum(other[:2] == server[:2] for other in weights) > 1
    return (noise.between if several else noise.of)(VALUE, engine, model, [])


def _rows(frame: pd.DataFrame, cell: Cell) -> pd.DataFrame:
    rows = of_server(frame, cell.server)
    conditions = pd.MultiIndex.from_frame(rows[CELL])
    return rows[conditions.isin(list(cell.conditions))]
