"""What a server is worth: against values worked out by hand, and where something was not measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import run_fixtures
from helpers.analysed import summary
from rllm_serving.analysis.server_data import ServerData
from rllm_serving.analysis.worth import SPEED_OF, Devices, metrics, per_million, with_both_intervals

GPUS = Devices(count=2, price_per_hour=7.2)


def group(**changes: Any) -> pd.DataFrame:
    """Four requests within 10 s, three of them right, the last one failed."""
    columns: dict[str, Any] = {"repeat": 0, "arrival": [0.0, 1.0, 2.0, 3.0], "closed": [4.0, 5.0, 10.0, 9.0]}
    columns |= {"completed": [True, True, True, False], "correct": [1.0, 1.0, 1.0, 0.0]}
    columns |= {"output_tokens": [100.0, 200.0, 300.0, np.nan], "forced_output_tokens": np.nan}
    return pd.DataFrame(columns | changes)


def test_correct_answers_by_time_device_energy_tokens_and_money() -> None:
    found = metrics(group(), np.arange(4), 60.0, GPUS)
    assert found == pytest.approx(
        {"request_throughput": 0.3, "request_throughput_per_device": 0.15, "energy_per_answer": 20}
        | {"correct_rate": 0.3, "correct_per_device_second": 0.15, "correct_per_joule": 0.05}
        | {"correct_per_dollar": 3 / (10 * 7.2 / 3600), "correct_per_million_tokens": 5000}
        | {"correct_per_million_tokens_low": np.nan, "correct_per_million_tokens_high": np.nan},
        nan_ok=True,
    )


def test_what_was_not_measured_is_missing() -> None:
    bare = metrics(group(), np.arange(4), np.nan, Devices())
    known = {name for name, value in bare.items() if not np.isnan(value)}
    assert known == {"request_throughput", "correct_rate", "correct_per_million_tokens"}
    ungraded = metrics(group(correct=np.nan), np.arange(4), 60.0, GPUS)
    assert set(ungraded) == {"request_throughput", "request_throughput_per_device", "energy_per_answer"}
    uncounted = metrics(group(output_tokens=np.nan), np.arange(4), 60.0, GPUS)
    assert np.isnan(uncounted["correct_per_million_tokens"]) and uncounted["correct_rate"] == 0.3
    failed = metrics(group(completed=False, correct=0.0), np.arange(4), 60.0, GPUS)
    assert all(np.isnan(value) for value in failed.values())


@pytest.mark.parametrize(
    ("record", "price", "count", "together"),
    [
        ({"device": "cuda", "config": {"options": {"tensor_parallel": 4}}, "sessions": []}, 2.5, 4, 10),
        ({"device": "cpu", "config": {}, "sessions": [{"hardware": {"cores": 8}}]}, 0.4, 8, 0.4),
        ({"device": "cpu", "config": {}, "sessions": [{"hardware": {"cores": None}}]}, None, np.nan, np.nan),
        ({}, None, np.nan, np.nan),
    ],
)
def test_devices_are_gpus_or_the_cores_of_the_machine(
    record: dict[str, Any], price: float | None, count: float, together: float
) -> None:
    found = Devices.of(record, price)
    assert (found.count, found.price_per_hour) == pytest.approx((count, together), nan_ok=True)


def row(**changes: float) -> dict[str, float]:
    known = dict.fromkeys(SPEED_OF, 40.0) | {"accuracy": 0.8, "accuracy_low": 0.4, "accuracy_high": 0.8 * 1.1}
    for speed in SPEED_OF.values():
        known |= {f"{speed}_low": 50 / 1.2, f"{speed}_high": 50 * 1.2}
    return known | changes


def test_each_end_is_as_uncertain_as_accuracy_and_speed_together() -> None:
    found = with_both_intervals(row())
    for name in SPEED_OF:
        assert np.log(40 / found[f"{name}_low"]) == pytest.approx(np.hypot(np.log(2), np.log(1.2)))
        assert np.log(found[f"{name}_high"] / 40) == pytest.approx(np.hypot(np.log(1.1), np.log(1.2)))
    # All were right: only the speed may be better.
    perfect = with_both_intervals(row(accuracy=1.0, accuracy_low=0.9, accuracy_high=1.0))
    assert perfect["correct_rate_high"] == pytest.approx(40 * 1.2)
    assert perfect["correct_rate_low"] < 40 / 1.2


@pytest.mark.parametrize("changes", [{"accuracy_low": np.nan}, {"request_throughput_low": np.nan}])
def test_without_either_interval_there_is_none(changes: dict[str, float]) -> None:
    assert np.isnan(with_both_intervals(row(**changes))["correct_rate_low"])


def test_where_nothing_was_correct_there_is_no_interval() -> None:
    nothing = dict.fromkeys(SPEED_OF, 0.0) | {"accuracy": 0.0, "accuracy_low": 0.0, "accuracy_high": 0.1}
    assert all(np.isnan(end) for end in with_both_intervals(row(**nothing)).values())
    found = per_million(np.zeros(20), np.full(20, 50.0), np.arange(20))
    assert found.value == 0 and np.isnan(found.low) and np.isnan(found.high)


def test_wrong_answers_that_are_long_make_answers_a_token_less_certain() -> None:
    correct, question = np.tile([1.0, 1.0, 0.0, 1.0], 10), np.arange(40)
    tokens = np.random.default_rng(1).uniform(80, 120, 40)
    widths = []
    for wrong in (200, 0, -60):  # more tokens for wrong answers than for right ones
        length = tokens + wrong * (correct == 0)
        found = per_million(correct, length, question)
        assert found.value == pytest.approx(1e6 * correct.sum() / length.sum())
        assert found.low < found.value < found.high
        widths.append(np.log(found.high / found.low))
    assert widths[0] > widths[1] > widths[2]


def test_a_run_without_energy_columns_has_every_other_metric() -> None:
    requests, grades, samples, record = run_fixtures.run(budgets=(512,), starts=3)
    with_energy = summary(ServerData(requests, grades, samples, [record]))
    older = summary(ServerData(requests, grades, samples.drop(columns="host_energy_j"), [record]))
    assert with_energy["energy_per_answer"].notna().all() and with_energy["correct_per_joule_low"].notna().all()
    assert older[["energy", "energy_per_answer", "correct_per_joule"]].isna().all(axis=None)
    assert older["correct_rate_low"].tolist() == with_energy["correct_rate_low"].tolist()
