"""Pages of metrics: with and without a value, damaged in every way, from engines that lack one."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.fake_engine import METRIC_VALUES, METRICS_PAGE
from helpers.mock_server import MockServer
from rllm_serving.measurement.engine_metrics import SPECULATION, TRIES, EngineMetrics, PageReader
from rllm_serving.serving.engines import ENGINES, MetricSource

METRICS = ENGINES["vllm"].metrics
NOTHING = dict.fromkeys(METRICS)
WHOLE_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
RANKS = b'a{rank="0"} 0.25\na{rank="1"} 0.75\nb{rank="0"} 3\nb{rank="1"} 4\n'


def read(page: bytes | None, **sources: MetricSource) -> dict[str, float | None]:
    return EngineMetrics(sources or METRICS).read(page)


def test_a_real_page_gives_every_column_and_null_where_it_is_silent() -> None:
    assert read(METRICS_PAGE) == METRIC_VALUES


def test_label_sets_are_added_or_the_largest_taken() -> None:
    sources = {"share": MetricSource("a", "max"), "count": MetricSource("b"), "other": MetricSource("c", "max")}
    assert read(RANKS, **sources) == {"share": 0.75, "count": 7.0, "other": None}


def test_a_measured_zero_is_no_null() -> None:
    assert read(b"a 0.0\n", x=MetricSource("a"), y=MetricSource("a", "max")) == {"x": 0.0, "y": 0.0}


def test_a_counter_shown_only_once_it_moved_is_zero_before_but_null_afterwards_and_without_a_page() -> None:
    metrics = EngineMetrics({"retracted": MetricSource("r_total", absent=0.0), "running": MetricSource("r")})
    assert metrics.read(b"r 3\n") == {"retracted": 0.0, "running": 3.0}
    assert metrics.read(b"\n") == {"retracted": None, "running": None}
    assert metrics.read(None) == {"retracted": None, "running": None}
    assert metrics.read(b"r 3\nr_total 2\n") == {"retracted": 2.0, "running": 3.0}
    assert metrics.read(b"r 3\n") == {"retracted": None, "running": 3.0}


def test_a_label_set_that_went_missing_makes_no_smaller_sum() -> None:
    metrics = EngineMetrics({"share": MetricSource("a", "max"), "count": MetricSource("b")})
    metrics.read(RANKS)
    assert metrics.read(RANKS.replace(b'b{rank="1"} 4\n', b"")) == {"share": 0.75, "count": None}
    assert not metrics.is_whole(b"a 1\n") and metrics.is_whole(RANKS + b'b{rank="2"} 1\n')


@pytest.mark.parametrize(
    "page",
    [
        METRICS_PAGE.replace(b"} 31.0", b"} thirty"),
        METRICS_PAGE.replace(b'"} 31.0', b" 31.0"),
        METRICS_PAGE.replace(b"} 31.0", b"} 31.0 noon"),
        METRICS_PAGE.replace(b'model_name="m"', b'model_name="\xff\xfe"', 1),
        b"vllm:num_requests_running",
        b"<html>busy</html>\n",
        b"",
    ],
)
def test_a_page_that_cannot_be_read_is_a_missing_sample(page: bytes) -> None:
    assert read(page) == NOTHING


@pytest.mark.parametrize("value", [b"NaN", b"+Inf", b"-Inf"])
def test_what_is_no_number_is_null_and_its_neighbours_are_not(value: bytes) -> None:
    assert read(METRICS_PAGE.replace(b"} 31.0", b"} " + value)) == METRIC_VALUES | {"running": None}


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 500 No\r\nContent-Length: 5\r\n\r\nsorry",
        WHOLE_ANSWER % len(METRICS_PAGE) + METRICS_PAGE[:-40],
        b"HTTP/1.1 200 OK\r\n\r\n" + METRICS_PAGE[:-4],  # no length: only its last line tells
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n" + METRICS_PAGE[:64] + b"\r\n",
        b"what?\r\n\r\n",
        b"",
    ],
)
def test_a_damaged_answer_is_no_page_and_the_next_one_is(answer: bytes) -> None:
    with MockServer(metrics=METRICS_PAGE, pages=[answer]) as server:
        pages = PageReader(server.port, EngineMetrics(METRICS).names)
        assert pages.page() is None
        assert read(pages.page()) == METRIC_VALUES
        pages.close()


@pytest.fixture
def package(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "observability").mkdir()
    (tmp_path / "observability" / "collector.py").write_text('Counter(name="e:retracted_total")\n')
    yield tmp_path


LAZY = {
    "running": MetricSource("e:running"),
    "preemptions": MetricSource("e:retracted_total", absent=0.0),
    "prefix_hits": MetricSource("e:hits_total", absent=0.0),
}


def test_metrics_that_the_engine_has_no_more_are_found_at_the_start(
    package: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with MockServer(metrics=b"e:other 3\ne:running 3\n") as server, caplog.at_level(logging.WARNING):
        metrics = EngineMetrics.of_server(server.port, LAZY, package)
    assert metrics.missing == {"prefix_hits": "the engine has no metric e:hits_total"}
    assert [line for line in caplog.messages if "prefix_hits" in line and "e:hits_total" in line]
    assert metrics.read(b"e:running 3\n") == {"running": 3.0, "preemptions": 0.0, "prefix_hits": None}


def test_without_its_package_a_counter_that_has_not_moved_is_not_missed() -> None:
    with MockServer(metrics=b"e:running 3\n") as server:
        assert EngineMetrics.of_server(server.port, LAZY, None).missing == {}


def test_one_damaged_page_makes_no_metric_missing() -> None:
    damaged = WHOLE_ANSWER % 9 + b"e:other 3"
    with MockServer(metrics=METRICS_PAGE, pages=[damaged, b"HTTP/1.1 500 No\r\n\r\n"]) as server:
        assert EngineMetrics.of_server(server.port, METRICS, None).missing == {}


def test_speculation_is_missed_only_where_it_is_used() -> None:
    with MockServer(metrics=METRICS_PAGE) as server:
        assert set(EngineMetrics.of_server(server.port, METRICS, None, "ngram").missing) == set(SPECULATION)
        assert server.received == ["GET /metrics"] * TRIES


def test_a_server_without_a_page_has_no_metrics() -> None:
    with MockServer() as server:
        missing = EngineMetrics.of_server(server.port, METRICS, None).missing
    assert set(missing) == set(METRICS) - set(SPECULATION) and set(missing.values()) == {"no page came from /metrics"}
