"""What a served model is worth: correct answers for the time, devices, energy, tokens and money that they took.

A rate of correct answers is accuracy x requests per resource. Its two parts vary for different reasons: accuracy over
questions, the resource over starts. Their intervals are combined on the log scale by the method of variance estimates
recovery (Zou and Donner 2008): each end is as far from the value as the root of the squares of how far the same ends of
both parts are. So accuracy's interval stays right at 100 %. Correct answers a token are accuracy / tokens a request,
both over questions: combined likewise, with the correlation of the two. Times are those of these questions, as
everywhere in this study. benchmarks/coverage.py shows how often these intervals hold a known truth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from . import says
from .intervals import MISSING, Array, Codes, Interval, mean, share
from .request_metrics import point_spans

SPEED_OF = {
    "correct_rate": "request_throughput",
    "correct_per_device_second": "request_throughput",
    "correct_per_dollar": "request_throughput",
    "correct_per_joule": "energy_per_answer",
}
"""A rate of correct answers -> the metric whose noise between starts is that of its resource."""
MILLION = 1e6


@dataclass(frozen=True)
class Devices:
    """What a server occupies.

    Attributes:
        count: its GPUs; on CPU the cores of its machine. NaN where that was not recorded.
        price_per_hour: of all of them together, dollars; NaN where the config has no price.
    """

    count: float = np.nan
    price_per_hour: float = np.nan

    @classmethod
    def of(cls, record: Mapping[str, Any], price_per_hour: float | None = None) -> Devices:
        """Read them from a run.json.

        Args:
            record: of one run of the server; may be empty.
            price_per_hour: the config's: of one GPU, on CPU of the machine.
        """
        price = np.nan if price_per_hour is None else price_per_hour
        if record.get("device") == "cuda":
            gpus = float(record["config"]["options"]["tensor_parallel"])
            return cls(gpus, gpus * price)
        sessions = record.get("sessions") or [{}]
        return cls(float(sessions[0].get("hardware", {}).get("cores") or np.nan), price)


def metrics(group: pd.DataFrame, question: Codes, energy: float, devices: Devices) -> dict[str, float]:
    """Return the metrics of METRICS that say what a server is worth; intervals only of those over questions.

    Args:
        group: rows of `ServerData.frame` of one condition.
        question: number of each row's question.
        energy: that all of its points took (J); NaN where it was not measured.
        devices: of the server.
    """
    completed = int(group["completed"].sum())
    span = float(point_spans(group)["seconds"].sum())
    seconds = span if completed and span > 0 else np.nan
    joules = energy if completed and energy > 0 else np.nan
    row = {
        "request_throughput": completed / seconds,
        "request_throughput_per_device": completed / seconds / devices.count,
        "energy_per_answer": joules / completed if completed else np.nan,
    }
    if not says.is_graded(group):
        return row
    correct = float(group["correct"].sum())
    row |= {
        "correct_rate": correct / seconds,
        "correct_per_device_second": correct / seconds / devices.count,
        "correct_per_dollar": correct / (seconds / 3600 * devices.price_per_hour),
        "correct_per_joule": correct / joules,
    }
    return row | says.interval_columns("correct_per_million_tokens", _per_million_tokens(group, question))


def _per_million_tokens(group: pd.DataFrame, question: Codes) -> Interval:
    """Accuracy / mean output tokens; a failed request has none. None where the tokens were not counted."""
    tokens = group["output_tokens"].where(group["completed"], 0).to_numpy(dtype=float)
    if np.isnan(tokens).any() or not tokens.any():
        return MISSING
    return per_million(group["correct"].to_numpy(dtype=float), tokens, question)


def per_million(correct: Array, tokens: Array, question: Codes) -> Interval:
    """Correct answers a million tokens with their interval.

    Args:
        correct: shape (n,), 0 or 1, a value a request.
        tokens: shape (n,), likewise.
        question: shape (n,), number of each request's question.
    """
    accuracy, length = share(correct, question), mean(tokens, question)
    value = MILLION * accuracy.value / length.value
    if not accuracy.value > 0:
        return Interval(value, np.nan, np.nan)
    residuals = [np.bincount(question, part - part.mean()) for part in (correct, tokens)]
    size = np.linalg.norm(residuals[0]) * np.linalg.norm(residuals[1])
    correlation = float(residuals[0] @ residuals[1] / size) if size > 0 else 0.0
    fewer, more = np.log(accuracy.value / accuracy.low), np.log(accuracy.high / accuracy.value)
    shorter, longer = np.log(length.value / length.low), np.log(length.high / length.value)
    below, above = (
        np.sqrt(np.maximum(0, one**2 + other**2 - 2 * correlation * one * other))
        for one, other in ((fewer, longer), (more, shorter))
    )
    return Interval(value, float(value * np.exp(-below)), float(value * np.exp(above)))


def with_both_intervals(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the interval ends of SPEED_OF's metrics, from those of accuracy and speed; NaN where either has none.

    None where nothing was correct: how much may have been is said by the interval of accuracy.

    Args:
        row: a row of a summary with values, and the ends of accuracy and of the speeds.
    """
    ends: dict[str, float] = {}
    for name, speed in SPEED_OF.items():
        low, high = _ends(row, name, speed)
        ends |= {f"{name}_low": low, f"{name}_high": high}
    return ends


def _ends(row: Mapping[str, Any], name: str, speed: str) -> tuple[float, float]:
    value = row[name]
    accuracy, low, high = (row[f"accuracy{end}"] for end in ("", "_low", "_high"))
    slowest, fastest = row[f"{speed}_low"], row[f"{speed}_high"]
    if pd.isna([value, low, slowest]).any() or not value > 0:
        return np.nan, np.nan
    # The speed's interval is symmetric on the log scale, around the starts' geometric mean.
    reach = float(np.log(fastest / slowest)) / 2
    below, above = np.log(accuracy / low), np.log(high / accuracy)
    return float(value * np.exp(-np.hypot(below, reach))), float(value * np.exp(np.hypot(above, reach)))
