"""Metrics of requests and batches against values worked out by hand; most stand in test_points.py with the points'."""

from __future__ import annotations

import pyarrow as pa
import pytest
from helpers.analysed import points
from helpers.request_rows import dead, three
from rllm_serving.analysis import request_metrics
from rllm_serving.analysis.server_data import ServerData


def test_batches_of_a_point_add_up_to_its_span() -> None:
    rows = three() + [row | {"batch": 1, "sent": 11.0, "last_token": 12.0 + i} for i, row in enumerate(three())]
    table = request_metrics.batches(request_metrics.latencies(pa.Table.from_pylist(rows)))
    assert table["seconds"].tolist() == [11.0, 3.0]
    # in the second batch all three finish at 12, 13, 14: one of three runs in the last third
    assert table["straggler_time_fraction"].tolist() == pytest.approx([0.55, 1 / 3])
    assert (table["last_quarter_time_fraction"] <= table["straggler_time_fraction"]).all()


def test_a_failed_request_that_a_batch_waits_for_is_a_straggler() -> None:
    # Three run from 0, 0.5 and 1 to 3, 5 and 10; the failed one from 0, or whenever, to 100; or to 0.25.
    rows = [row | {"closed": row["last_token"]} for row in three()]
    for sent, closed, share in ((0.0, 100.0, 0.9), (None, 100.0, 0.9), (0.0, 0.25, (0.25 + 5) / 10)):
        failed = dead(3, sent=sent, last_token=None, closed=closed)
        table = request_metrics.batches(request_metrics.latencies(pa.Table.from_pylist([*rows, failed])))
        assert table["straggler_time_fraction"].tolist() == pytest.approx([share])
        assert table["end"].tolist() == [max(10, closed)]


def test_time_lost_to_failures_counts_in_the_last_batch_as_in_the_first() -> None:
    # Each batch waits 10 s for a success or 100 s for a failure that is told when it was over.
    good = [row | {"closed": row["last_token"]} for row in three()]
    lost = [dead(index, last_token=None, closed=100.0) for index in range(3)]
    for order in ([good, lost], [lost, good]):
        shift = 10.0 if order[0] is good else 100.0
        times = ("sent", "first_token", "first_visible_token", "last_token", "closed")
        later = [row | {k: row[k] + shift for k in times if row[k] is not None} | {"batch": 1} for row in order[1]]
        table = pa.Table.from_pylist([*order[0], *later])
        frame = request_metrics.latencies(table)
        assert sorted(request_metrics.batches(frame)["seconds"]) == [10, 100]
        assert request_metrics.point_spans(frame)["seconds"].tolist() == [110]
        assert points(ServerData(table)).iloc[0]["output_throughput"] == pytest.approx(10 / 110)
