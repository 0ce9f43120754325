"""KV occupancy from chunks, against values worked out by hand and against a count at random times."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from rllm_serving.analysis.kv_occupancy import Occupancy, gauge_difference, kv_summary, occupancy
from rllm_serving.analysis.request_metrics import Chunks, latencies

ROW = {"load": "closed-2", "repeat": 0, "status": "ok", "scheduled": None, "batch": None, "prompt_tokens": 10}
ROW |= dict.fromkeys(["first_visible_token", "reasoning_tokens", "answer_tokens", "forced_output_tokens"])


def request(sent: float, times: list[float], tokens: list[int | None], **changes: Any) -> dict[str, Any]:
    """A request that ended well with its last chunk."""
    row = ROW | {"sent": sent, "chunk_times": times, "chunk_tokens": tokens, "first_token": times[0] if times else None}
    row |= {"last_token": times[-1] if times else None, "closed": times[-1] if times else None}
    return row | {"output_tokens": sum(token or 0 for token in tokens)} | changes


def held(*rows: dict[str, Any]) -> Occupancy | None:
    table = pa.Table.from_pylist(list(rows))
    return occupancy(latencies(table), Chunks(table).take(np.arange(len(rows))))


A = request(0.0, [1.0, 2.0, 4.0], [1, 2, 3])  # holds 11 from 1, 13 from 2, nothing from 4
B = request(1.0, [3.0, 6.0], [1, 4], prompt_tokens=20)  # 21 from 3, nothing from 6
FAILED = request(2.0, [5.0], [2], status="truncated", last_token=None, closed=10.0)  # 12 from 5 to 10
STEPS = [(0, 0), (1, 11), (2, 13), (3, 34), (4, 21), (5, 33), (6, 12)]


def test_overlapping_requests_and_a_failed_one_by_hand() -> None:
    found = held(A, B, FAILED)
    assert found is not None
    assert list(zip(found.edges[:-1], found.held, strict=True)) == STEPS and found.edges[-1] == 10
    expected = {"mean": (11 + 13 + 34 + 21 + 33 + 4 * 12) / 10, "max": 34, "p5": 0, "p95": 34, "swing": 34}
    summary = kv_summary(found, 100)
    assert summary == pytest.approx(
        {f"kv_held_tokens_{name}": value for name, value in expected.items()}
        | {f"kv_held_share_{name}": value / 100 for name, value in expected.items()}
    )
    unknown = kv_summary(found, None)
    assert unknown["kv_held_tokens_max"] == 34 and np.isnan(unknown["kv_held_share_max"])


def test_quantiles_are_weighted_by_time() -> None:
    # 0 for 1 s of 20, 11 until 19, 22 for the last one: 5 % of the time each.
    found = held(request(0.0, [1.0, 20.0], [1, 1]), request(0.0, [19.0, 20.0], [1, 1]))
    summary = kv_summary(found, 22)
    assert (summary["kv_held_tokens_p5"], summary["kv_held_tokens_p95"], summary["kv_held_share_max"]) == (0, 11, 1)


def test_one_that_ends_when_another_begins_is_not_added_to_it() -> None:
    found = held(request(0.0, [1.0, 2.0], [1, 1]), request(0.0, [2.0, 3.0], [1, 1]))
    assert found is not None and found.held.max() == 11 and found.at(np.array([2.0])) == 11


def test_a_request_that_never_got_a_token_holds_nothing_and_takes_its_time() -> None:
    found = held(A, request(0.0, [], [], status="timeout", prompt_tokens=None, output_tokens=None, closed=8.0))
    assert found is not None and kv_summary(found, None)["kv_held_tokens_mean"] == pytest.approx((11 + 2 * 13) / 8)


def test_chunks_that_show_less_than_the_server_counted_are_scaled() -> None:
    found = held(request(0.0, [1.0, 2.0, 4.0], [1, None, 2], output_tokens=6))
    assert found is not None and found.at(np.array([0.5, 1.5, 3.9])).tolist() == [0, 12, 12] and found.edges[-1] == 4


@pytest.mark.parametrize(
    "row",
    [
        B | {"prompt_tokens": None},
        FAILED | {"prompt_tokens": None},
        B | {"chunk_tokens": [None, None]},
        FAILED | {"closed": None},
    ],
    ids=["prompt", "prompt of a failed one", "no counts", "no end"],
)
def test_what_is_not_known_is_no_number(row: dict[str, Any]) -> None:
    found = held(A, row)
    assert found is None
    assert all(np.isnan(value) for value in kv_summary(found, 100).values())
    assert np.isnan(gauge_difference(found, gauge([1.5], [0.1]), 100))


def gauge(times: list[float], usage: list[float | None], window: bool = True) -> pd.DataFrame:
    return pd.DataFrame({"repeat": 0, "time": times, "kv_cache_usage": usage, "in_window": window})


def test_the_servers_gauge_is_compared_at_its_own_times() -> None:
    found = held(A, B, FAILED)
    # The client has 0.11, 0.34 and 0.12; the samples outside the window and without a value don't count.
    samples = pd.concat([gauge([3.0, 1.5, 9.9, 5.0], [0.4, 0.11, 0.0, None]), gauge([2.5], [0.9], window=False)])
    assert gauge_difference(found, samples, 100) == pytest.approx((0.06 + 0 + 0.12) / 3)
    assert np.isnan(gauge_difference(found, samples, None)) and np.isnan(gauge_difference(found, samples[3:], 100))
    assert found is not None and found.at(np.array([-1.0, 10.0, 11.0])).tolist() == [0, 0, 0]


def test_it_is_the_count_at_any_time() -> None:
    rng, rows = np.random.default_rng(0), []
    for number in range(20):
        sent, count = rng.uniform(0, 5), int(rng.integers(1, 30))
        times = (sent + np.cumsum(rng.exponential(0.2, count))).tolist()
        failed = {"status": "timeout", "last_token": None, "closed": times[-1] + 1.0} if number % 5 == 0 else {}
        rows.append(request(sent, times, rng.integers(1, 4, count).tolist(), prompt_tokens=number, **failed))
    found = held(*rows)
    assert found is not None
    for at in rng.uniform(0, found.edges[-1], 50):
        running = [row for row in rows if row["first_token"] <= at < row["closed"]]
        pairs = [zip(row["chunk_times"], row["chunk_tokens"], strict=True) for row in running]
        came = sum(tokens for chunks in pairs for time, tokens in chunks if time <= at)
        assert found.at(np.array([at]))[0] == sum(row["prompt_tokens"] for row in running) + came
