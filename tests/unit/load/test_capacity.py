"""The capacity of made-up servers whose rate is known."""

from __future__ import annotations

from heapq import heapreplace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rllm_serving.load.capacity import measured_capacity
from rllm_serving.load.trace_files import ArrivalError
from rllm_serving.measurement.rows import REQUESTS

KEYS = {"experiment": "e", "engine": "vllm", "model": "m", "quantization": "bf16", "setup": "baseline", "dataset": "d"}
SIZE = 8


def closed(seconds: list[float], size: int = SIZE, **changes: Any) -> list[dict[str, Any]]:
    """A closed load's rows: `size` in flight, each lasts its seconds."""
    free, rows = [0.0] * size, []
    for index, lasts in enumerate(seconds):
        sent = free[0]
        heapreplace(free, sent + lasts)
        row = KEYS | {"load": f"closed-{size}", "load_level": size, "budget": 64, "repeat": 0, "status": "ok"}
        row |= {"index": index, "sent": sent, "first_token": sent, "last_token": sent + lasts, "closed": sent + lasts}
        rows.append(row | changes)
    return rows


def write(file: Path, *points: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist([row for point in points for row in point], schema=REQUESTS), file)
    return file


def capacity(*files: Path, most: int = SIZE) -> float:
    return measured_capacity({"vllm/m": files}, "d", most)["vllm/m"]


def test_constant_service_has_its_exact_rate(tmp_path: Path) -> None:
    # Eight at a time, half a second each: 16/s, however long the last one takes while the server runs empty.
    rows = closed([0.5] * 63 + [100.0])
    assert capacity(write(tmp_path / "a", rows)) == pytest.approx(16)


def test_repeats_and_starts_of_a_server_are_added_up(tmp_path: Path) -> None:
    one = write(tmp_path / "a", closed([0.5] * 16), closed([0.5] * 16, repeat=1))
    # 8 + 8 ended in 0.5 + 0.5 s; in another start 24 in 3 s.
    assert capacity(one) == pytest.approx(16)
    assert capacity(one, write(tmp_path / "b", closed([1.0] * 32))) == pytest.approx((8 + 8 + 24) / (0.5 + 0.5 + 3))


def test_chance_service_has_the_rate_of_places_over_mean_time(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    points = [closed(rng.exponential(2.0, 400).tolist(), repeat=repeat) for repeat in range(20)]
    assert capacity(write(tmp_path / "a", *points)) == pytest.approx(SIZE / 2, rel=0.02)


def test_only_the_largest_closed_load_at_the_largest_budget_of_the_dataset_counts(tmp_path: Path) -> None:
    others = [
        closed([9.0] * 99, dataset="other"),
        closed([9.0] * 99, budget=32),
        closed([9.0] * 99, size=4),
        [row | {"load": "batch-16"} for row in closed([9.0] * 99, size=16)],
    ]
    assert capacity(write(tmp_path / "a", closed([0.5] * 64), *others)) == pytest.approx(16)


def test_failed_requests_take_time_and_are_no_completions(tmp_path: Path) -> None:
    rows = closed([0.5] * 64)
    for row in rows[::2]:
        row |= {"status": "timeout", "last_token": None}
    assert capacity(write(tmp_path / "a", rows)) == pytest.approx(8)


@pytest.mark.parametrize(
    ("rows", "most", "reason"),
    [
        ([row | {"load": "batch-8"} for row in closed([1.0] * 64)], SIZE, r"no closed load of d .*give its experiment"),
        (closed([1.0] * 64), 9, r"has 8 requests in flight, the server works on 9 at once \(serving.max_running"),
        (closed([1.0] * 16), SIZE, "8 requests of d ended well .* needs 16; more questions or repeats are needed"),
        (closed([1.0] * 8), SIZE, "0 requests of d ended well"),
        ([row | {"status": "http", "last_token": None} for row in closed([1.0] * 64)], SIZE, "0 requests of d ended"),
    ],
    ids=["no closed load", "not saturated", "too few", "no window", "all failed"],
)
def test_what_tells_no_capacity_is_refused(tmp_path: Path, rows: list[dict[str, Any]], most: int, reason: str) -> None:
    file = write(tmp_path / "requests.parquet", rows)
    with pytest.raises(ArrivalError, match=reason) as caught:
        capacity(file, most=most)
    assert str(caught.value).startswith(f"{file}: ")
