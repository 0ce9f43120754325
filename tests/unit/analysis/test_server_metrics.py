"""What a server's samples say, against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from rllm_serving.analysis import server_metrics


def samples(time: list[float], kv: list[float | None], **more: object) -> pd.DataFrame:
    frame = pd.DataFrame(
        {"time": time, "kv_cache_usage": kv, "running": kv, "waiting": None, "preemptions": None, "in_window": True}
    )
    return frame.assign(repeat=0).assign(**more)  # type: ignore[arg-type]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few samples are enough."""
    monkeypatch.setattr(server_metrics, "MIN_SAMPLES", 1)


pytestmark = pytest.mark.usefixtures("few")


def test_a_gauge_of_few_samples_is_missing_and_their_number_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_metrics, "MIN_SAMPLES", 3)
    found = server_metrics.gauge_summary(samples([0, 1], [0.5, 0.5], preemptions=[0, 4]))
    assert "kv_cache_usage_mean" not in found and (found["gauge_samples"], found["preemptions"]) == (2, 4)
    two = pd.concat([samples([0, 1], [0.9, 0.9]), samples([0, 1, 2], [0.1] * 3, repeat=1)])
    found = server_metrics.gauge_summary(two)
    assert found["kv_cache_usage_max"] == 0.1 and found["gauge_samples"] == 2


def test_server_means_are_weighted_by_time() -> None:
    # weights 0.5, 0.5 + 4.5, 4.5
    found = server_metrics.gauge_summary(samples([0, 1, 10], [0.0, 0.2, 0.4], preemptions=[5, 7, 7]))
    assert found["kv_cache_usage_mean"] == pytest.approx((5 * 0.2 + 4.5 * 0.4) / 10)
    assert (found["kv_cache_usage_max"], found["kv_cache_usage_p5"], found["kv_cache_usage_p95"]) == (0.4, 0.0, 0.4)
    assert found["kv_cache_usage_swing"] == pytest.approx(0.4)
    assert found["preemptions"] == 2
    assert "waiting_mean" not in found


def test_time_between_points_weighs_nothing_and_missing_samples_are_left_out() -> None:
    two = pd.concat([samples([0, 1], [1.0, 1.0]), samples([0, 1, 3], [0.0, None, 0.0], repeat=1)])
    assert server_metrics.gauge_summary(two)["kv_cache_usage_mean"] == pytest.approx(1 / 4)
    assert server_metrics.gauge_summary(samples([3], [0.7]))["kv_cache_usage_mean"] == 0.7


@pytest.mark.parametrize(
    ("energy", "gained"),
    [
        ([[10.0, 12, 15], [15.0, 15, 21]], 11.0),
        ([[10.0, 12, 15], [15.0, None, 21]], None),  # a gap
        ([[None, 12, 15], [15.0, 15, 21]], None),
        ([[10.0, 12, 15], [15.0, 2, 21]], None),  # a reset
        ([[10.0, 12, 15], [15.0]], None),
        ([[None, None]], None),
    ],
)
def test_energy_of_a_repeat_with_a_gap_is_missing(energy: list[list[float | None]], gained: float | None) -> None:
    points = [
        samples([float(k) for k in range(len(values))], [0.5] * len(values), device_energy_j=values, repeat=repeat)
        for repeat, values in enumerate(energy)
    ]
    found = server_metrics.gauge_summary(pd.concat(points))["energy"]
    assert found == gained if gained is not None else pd.isna(found)


def test_energy_is_the_hosts_only_where_no_gpu_tells_any() -> None:
    host = samples([0, 1], [0.5, 0.5], host_energy_j=[0.0, 4.0])
    assert server_metrics.gauge_summary(host)["energy"] == 4
    assert server_metrics.gauge_summary(host.assign(device_energy_j=np.nan))["energy"] == 4
    assert server_metrics.gauge_summary(host.assign(device_energy_j=[7.0, 9.0]))["energy"] == 2
    assert pd.isna(server_metrics.gauge_summary(host.assign(device_energy_j=[7.0, np.nan]))["energy"])


def test_preemptions_count_across_gaps_and_resets() -> None:
    found = server_metrics.gauge_summary(samples([0, 1, 2, 3], [0.5] * 4, preemptions=[3, None, 5, 1]))
    assert found["preemptions"] == 2 and pd.isna(found["energy"])


def test_gauges_are_those_under_load_and_counters_grow_over_all_samples() -> None:
    idle_at_both_ends = samples([-0.1, 1, 2, 2.1], [0.0, 0.5, 0.5, 0.0], preemptions=[0, 0, 1, 3])
    found = server_metrics.gauge_summary(idle_at_both_ends.assign(in_window=[False, True, True, False]))
    assert (found["kv_cache_usage_mean"], found["kv_cache_usage_p5"], found["preemptions"]) == (0.5, 0.5, 3)
    assert "kv_cache_usage_mean" not in server_metrics.gauge_summary(idle_at_both_ends.assign(in_window=False))
