"""What a served model is worth: correct answers for the time, devices, energy, tokens and money that they took.

A rate of correct answers is accuracy x requests per resource. Its two parts vary for different reasons: accuracy over
questions, the resource over starts. Their intervals are combined on the log scale (the square of each side of the
result is the sum of the squares of that side of both: the method of variance estimates recovery, Zou and Donner 2008),
which keeps accuracy's interval right at 100 %. The times are those of these questions, as all times of this study are;
what another choice of questions would do to them is in accuracy's part alone. benchmarks/coverage.py shows how often
these intervals hold a known truth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from . import says
from .intervals import Codes, Interval, mean
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
    """Correct answers / output tokens, a ratio of sums over questions; none where the tokens were not counted."""
    tokens = group["output_tokens"].where(group["completed"], 0).to_numpy(dtype=float)
    if np.isnan(tokens).any():
        return Interval(np.nan, np.nan, np.nan)
    correct = group["correct"].to_numpy(dtype=float)
    each = np.divide(correct, tokens, out=np.zeros(len(tokens)), where=tokens > 0)
    return Interval(*(MILLION * end for end in mean(each, question, tokens)))


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
