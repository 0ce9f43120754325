"""The noise of starts: pooled variances and their t intervals against values worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from rllm_serving.analysis.noise import Noise, NoiseTable, difference, noise_floor, pooled
from scipy import stats


def frame(values: dict[tuple[str, str], list[float]], engine: str = "vllm") -> pd.DataFrame:
    """A row a start: (model, setup) -> its latencies."""
    rows = [
        {"engine": engine, "model": model, "quantization": "bf16", "setup": setup, "dataset": "d", "x": value, "y": 0.0}
        | {"start": start}
        for (model, setup), starts in values.items()
        for start, value in enumerate(starts, 1)
    ]
    return pd.DataFrame(rows)


def test_variances_are_pooled_within_servers() -> None:
    found = pooled([np.array([1.0, 3.0]), np.array([10.0, 10.0, 13.0]), np.array([7.0]), np.array([np.nan, 2.0])])
    # (1 + 1) + (1 + 1 + 4), over 1 + 2 degrees of freedom; single starts tell nothing
    assert found.variance == pytest.approx(8 / 3) and (found.df, found.servers) == (3, 2)


def test_an_interval_is_students_t_on_the_logs() -> None:
    starts = {("m", "a"): [1.0, 1.1], ("m", "b"): [2.0, 2.1], ("m", "c"): [1.0, 1.2], ("m", "d"): [1.0, 1.05]}
    table = NoiseTable(frame(starts), ["dataset"], [])
    logs = [np.log(values) for values in starts.values()]
    variance = sum(part.var(ddof=1) for part in logs) / 4
    found = table.interval("x", np.array([1.0, 1.1]), "vllm", "m", ["d"])
    reach = stats.t.ppf(0.975, 4) * np.sqrt(variance / 2)
    assert found.value == pytest.approx(np.sqrt(1.1))
    assert (np.log(found.low), np.log(found.high)) == pytest.approx((logs[0].mean() - reach, logs[0].mean() + reach))


def test_models_are_a_pool_of_their_own_only_where_they_have_starts_enough() -> None:
    starts = {("m", "a"): [1.0, 1.2], ("n", "a"): [1.0, 2.0]}
    table = NoiseTable(frame(starts), ["dataset"], [])
    assert table.of("x", "vllm", "m", ["d"]) == table.of("x", "vllm", "n", ["d"])
    assert table.of("x", "vllm", "m", ["d"]).servers == 2
    many = {("m", "a"): [1.0, 1.2, 1.1], ("m", "b"): [1.0, 1.2, 1.1], ("n", "a"): [1.0, 2.0]}
    table = NoiseTable(frame(many), ["dataset"], [])
    own = table.of("x", "vllm", "m", ["d"])
    assert own.variance == pytest.approx(np.log([1.0, 1.2, 1.1]).var(ddof=1)) and (own.df, own.servers) == (4, 2)
    assert table.of("x", "vllm", "n", ["d"]).servers == 3


def test_there_is_no_interval_of_one_start_nor_of_a_variance_of_one_degree() -> None:
    table = NoiseTable(frame({("m", "a"): [1.0, 1.2], ("m", "b"): [1.0]}), ["dataset"], [])
    found = table.interval("x", np.array([1.0, 1.2]), "vllm", "m", ["d"])
    assert np.isnan([found.low, found.high]).all()
    table = NoiseTable(frame({("m", "a"): [1.0, 1.2, 1.1], ("m", "b"): [1.0]}), ["dataset"], [])
    assert not np.isnan(table.interval("x", np.array([1.0, 1.2, 1.1]), "vllm", "m", ["d"]).low)
    assert np.isnan(table.interval("x", np.array([1.0]), "vllm", "m", ["d"]).low)
    assert np.isnan(table.interval("x", np.array([1.0, 1.2]), "sglang", "m", ["d"]).low)


def test_what_is_not_positive_has_no_log_but_may_be_averaged_as_it_is() -> None:
    values = frame({("m", "a"): [1.0, 1.2, 1.1]})
    assert np.isnan(NoiseTable(values, ["dataset"], []).interval("y", np.zeros(3), "vllm", "m", ["d"]).value)
    found = NoiseTable(values, ["dataset"], ["x"]).interval("x", np.array([1.0, 1.2, 1.1]), "vllm", "m", ["d"])
    assert found.value == pytest.approx(1.1)
    assert found.high - found.value == pytest.approx(stats.t.ppf(0.975, 2) * 0.1 / np.sqrt(3))


def test_a_difference_of_two_pools_has_satterthwaites_degrees_of_freedom() -> None:
    one, two = Noise(0.04, 4, 2), Noise(0.01, 6, 3)
    same = difference([(1.0, 3, one, 1), (0.4, 2, one, -1)], same_pool=True)
    assert same[:] == pytest.approx((0.6, np.sqrt(0.04 / 3 + 0.04 / 2), 4))
    apart = difference([(1.0, 2, one, 1), (0.4, 2, two, -1)], same_pool=False)
    assert apart.error == pytest.approx(np.sqrt(0.025))
    assert apart.df == pytest.approx(0.025**2 / (0.02**2 / 4 + 0.005**2 / 6))
    assert np.isnan(difference([(1.0, 1, one, 1), (0.4, 2, two, -1)], same_pool=False).error)


def test_what_all_servers_share_in_a_start_is_no_noise_of_their_differences() -> None:
    block, own = np.log([1.0, 1.5, 0.8]), {"a": 1.0, "b": 2.0, "c": 1.3}
    same = {("m", setup): list(factor * np.exp(block)) for setup, factor in own.items()}
    table = NoiseTable(frame(same), ["dataset"], [])
    assert table.of("x", "vllm", "m", ["d"]).variance == pytest.approx(block.var(ddof=1))
    between = table.between("x", "vllm", "m", ["d"])
    assert between.variance == pytest.approx(0, abs=1e-12) and between.df == 4
    # Two servers in three starts would leave two degrees of freedom: too few to take the starts out.
    two = NoiseTable(frame({key: same[key] for key in list(same)[:2]}), ["dataset"], [])
    assert two.between("x", "vllm", "m", ["d"]) == two.of("x", "vllm", "m", ["d"])


def test_the_noise_floor_is_the_spread_of_starts_over_all_conditions() -> None:
    one = frame({("m", "a"): [1.0, 1.1], ("m", "b"): [3.0, 3.3], ("n", "a"): [1.0]}).assign(experiment="e")
    two = frame({("m", "a"): [1.0, 1.0], ("m", "b"): [3.0, 3.0]}).assign(experiment="e", dataset="other")
    found: Any = noise_floor(pd.concat([one, two]), ["dataset"], {"time": "x"}).set_index("model")
    variance = np.log([1.0, 1.1]).var(ddof=1)
    assert found.loc["m", "noise_time"] == pytest.approx(np.sqrt(variance / 2)) and found.loc["m", "starts"] == 2
    assert np.isnan(found.loc["n", "noise_time"])
