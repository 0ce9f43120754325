"""How often the intervals of the study hold the truth, in simulations where that is known.

    PYTHONPATH=workflow python benchmarks/coverage.py [TRIALS]

Every interval that a table prints is made here of simulated data, by the same functions. Servers are started: each
start has a mood (sd of its log 5 or 20 %), each repeat one (5 or 13 %), each request a length of its own. Prints a row
a statistic, size and noise: the share of intervals that held the truth (95 % promised, at least 93 % wanted), the share
of trials that had one, and its width. tests/unit/analysis/test_coverage.py holds the main rows.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
import pandas as pd
from rllm_serving.analysis import worth
from rllm_serving.analysis.intervals import (
    Array,
    Interval,
    from_log,
    mean,
    paired_difference,
    paired_log_ratio,
    quantiles,
    share,
)
from rllm_serving.analysis.noise import NoiseTable, difference
from simulated_starts import MICRO, NOISE, SIZES, STATISTICS, Size, paces

TRIALS = 400
TRUTH_STARTS = 4000
"""Starts that the truth of a time is taken from, where no formula has it."""


@dataclass
class Count:
    """Trials of one row."""

    held: int = 0
    given: int = 0
    trials: int = 0
    width: float = 0.0

    def add(self, found: Interval, truth: float) -> None:
        """Count an interval."""
        self.trials += 1
        if np.isnan(found.low):
            return
        self.given += 1
        self.held += found.low <= truth <= found.high
        self.width += (found.high - found.low) / max(abs(truth), 1e-9)

    @property
    def coverage(self) -> float:
        """Share of the intervals given that held the truth."""
        return self.held / self.given if self.given else np.nan

    def row(self, *labels: object) -> list[object]:
        """Labels, coverage, share of trials with an interval, mean width relative to the truth."""
        width = self.width / self.given if self.given else np.nan
        return [*labels, round(self.coverage, 3), round(self.given / self.trials, 2), round(width, 3)]


def of_starts(name: str, size: Size, noise: tuple[float, float], trials: int, seed: int = 1) -> dict[str, Count]:
    """Coverage of a statistic of one server, and of its ratio to another that is the same (of linear ones, none)."""
    statistic, linear = STATISTICS[name]
    rng = np.random.default_rng(seed)
    draws = [statistic(rng, size, paces(rng, size, noise)) for _ in range(TRUTH_STARTS)]
    truth = float(np.mean(draws) if linear else np.exp(np.mean(np.log(draws))))
    counts = {"value": Count(), "ratio": Count()}
    for _ in range(trials):
        values = rng.choice(draws, (size.servers, size.starts))
        table = NoiseTable(_frame(values), ["condition"], ["x"] if linear else [])
        counts["value"].add(table.interval("x", values[0], "e", "m", ["c"]), truth)
        if not linear and size.servers > 1:
            pool = table.between("x", "e", "m", ["c"])
            means = np.log(values).mean(axis=1)
            effect = difference([(means[0], size.starts, pool, 1), (means[1], size.starts, pool, -1)], True)
            counts["ratio"].add(from_log(effect), 1.0)
    return counts


def _frame(values: Array) -> pd.DataFrame:
    servers, starts = values.shape
    names, start = np.repeat([f"s{number}" for number in range(servers)], starts), np.tile(np.arange(starts), servers)
    return pd.DataFrame(
        {"engine": "e", "model": "m", "quantization": "q", "setup": names, "condition": "c", "start": start}
        | {"x": values.ravel()}
    )


@dataclass(frozen=True)
class Asked:
    """How often how many questions are asked."""

    name: str
    questions: int
    times: int


ASKED = (Asked("micro x4", 12, 12), Asked("micro pilot", 16, 2), Asked("micro", 32, 3), Asked("paper", 198, 3))


def _rates(rng: np.random.Generator, asked: Asked, accuracy: float, alike: float) -> Array:
    """Chance that each question is answered right; alike: correlation of the answers to a question."""
    return rng.beta(accuracy * (1 / alike - 1), (1 - accuracy) * (1 / alike - 1), asked.questions)


def of_accuracy(asked: Asked, accuracy: float, alike: float, trials: int, seed: int = 2) -> dict[str, Count]:
    """Coverage of an accuracy, and of its difference between two servers that are the same."""
    rng = np.random.default_rng(seed)
    counts = {"accuracy": Count(), "accuracy difference": Count()}
    question = np.repeat(np.arange(asked.questions), asked.times)
    for _ in range(trials):
        rates = _rates(rng, asked, accuracy, alike)[question]
        one, two = (rng.random((2, len(question))) < rates).astype(float)
        counts["accuracy"].add(share(one, question), accuracy)
        counts["accuracy difference"].add(paired_difference(one, two, question).interval(), 0.0)
    return counts


def of_tokens(asked: Asked, between: float, within: float, trials: int, seed: int = 3) -> dict[str, Count]:
    """Coverage of mean and median length, and of the ratio of means of two servers that are the same."""
    rng = np.random.default_rng(seed)
    counts = {"tokens mean": Count(), "tokens p50": Count(), "tokens ratio": Count()}
    question = np.repeat(np.arange(asked.questions), asked.times)
    for _ in range(trials):
        base = rng.normal(5, between, asked.questions)[question]
        one, two = np.exp(base + rng.normal(0, within, (2, len(question))))
        counts["tokens mean"].add(mean(one, question), float(np.exp(5 + (between**2 + within**2) / 2)))
        counts["tokens p50"].add(quantiles(one, question, [0.5])[0], float(np.exp(5)))
        counts["tokens ratio"].add(from_log(paired_log_ratio(one, two, question)), 1.0)
    return counts


def of_worth(asked: Asked, accuracy: float, alike: float, trials: int, seed: int = 4) -> dict[str, Count]:
    """Coverage of correct answers a second, and of those a million tokens where hard questions take more tokens.

    Each of MICRO's servers and starts has a speed, and every start of the first asks all questions.
    """
    rng = np.random.default_rng(seed)
    counts = {"correct a second": Count(), "correct a million tokens": Count()}
    starts = MICRO.starts
    question = np.tile(np.repeat(np.arange(asked.questions), -(-asked.times // starts)), starts)
    many = Asked("truth", 200_000, 1)
    per_token = worth.MILLION * accuracy / float(_lengths_of(rng, _rates(rng, many, accuracy, alike)).mean())
    for _ in range(trials):
        rates = _rates(rng, asked, accuracy, alike)[question]
        correct, speeds = (
            (rng.random(len(question)) < rates).astype(float),
            np.exp(rng.normal(0, 0.1, (MICRO.servers, starts))),
        )
        speed = NoiseTable(_frame(speeds), ["condition"], []).interval("x", speeds[0], "e", "m", ["c"])
        found = share(correct, question)
        row = dict(zip(("accuracy", "accuracy_low", "accuracy_high"), found, strict=True))
        for name, of in worth.SPEED_OF.items():
            row |= {name: found.value * speed.value, f"{of}_low": speed.low, f"{of}_high": speed.high}
        ends = worth.with_both_intervals(row)
        rate = Interval(row["correct_rate"], ends["correct_rate_low"], ends["correct_rate_high"])
        counts["correct a second"].add(rate, accuracy)
        tokens = worth.per_million(correct, _lengths_of(rng, rates), question)
        counts["correct a million tokens"].add(tokens, per_token)
    return counts


def _lengths_of(rng: np.random.Generator, rates: Array) -> Array:
    """Output tokens of answers: the harder the question, the more."""
    return np.exp(rng.normal(6 - rates, 0.4))


def rows(trials: int) -> list[list[object]]:
    """All rows."""
    found: list[list[object]] = []
    for name in STATISTICS:
        for size in SIZES:
            for noise in NOISE:
                label = f"start {noise[0]:.0%}, repeat {noise[1]:.0%}"
                for what, count in of_starts(name, size, noise, trials).items():
                    if count.trials:
                        found.append(count.row(name if what == "value" else f"{name}, {what}", size.name, label))
    for asked in ASKED:
        for accuracy in (0.5, 0.9, 0.97, 1.0 - 1e-6):
            for alike in (0.2, 0.7):
                for what, count in of_accuracy(asked, accuracy, alike, trials).items():
                    found.append(count.row(f"{what} at {accuracy:.0%}", asked.name, f"alike {alike:g}"))
        for accuracy in (0.2, 0.5, 0.9, 1.0 - 1e-6):
            for alike in (0.2, 0.7):
                for what, count in of_worth(asked, accuracy, alike, trials).items():
                    found.append(count.row(f"{what} at {accuracy:.0%}", asked.name, f"alike {alike:g}"))
        for between, within in ((0.3, 0.5), (0.7, 0.7)):
            for what, count in of_tokens(asked, between, within, trials).items():
                found.append(count.row(what, asked.name, f"sd of logs {between:g} and {within:g}"))
    return found


if __name__ == "__main__":
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else TRIALS
    table = pd.DataFrame(rows(trials), columns=["statistic", "size", "noise", "coverage", "given", "width"])
    print(table.to_markdown(index=False))
