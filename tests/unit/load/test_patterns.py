"""Loads by the server's own count of what is in flight: no clock, no luck."""

from __future__ import annotations

import time
from functools import partial
from itertools import groupby

import pytest
from helpers.mock_server import HOST, MockServer
from rllm_serving.load import client
from rllm_serving.load.client import HttpExchange
from rllm_serving.load.patterns import LOADS
from rllm_serving.load.requests import build_http_request
from rllm_serving.load.stream import decode


def drive(
    server: MockServer, load: str, size: int, prompts: list[str], **options: object
) -> list[tuple[HttpExchange, int | None]]:
    """Exchange and batch of each request, in order."""
    bodies = [{"messages": [{"role": "user", "content": prompt}], "stream": True} for prompt in prompts]
    requests = [build_http_request(HOST, server.port, "/v1/chat/completions", body) for body in bodies]
    _, seen = client.run(HOST, server.port, requests, partial(LOADS[load], **options), size, 20)
    return seen


def statuses(seen: list[tuple[HttpExchange, int | None]]) -> list[tuple[str, int | None]]:
    return [(decode(exchange).status, number) for exchange, number in seen]


def in_flight(seen: list[tuple[HttpExchange, int | None]]) -> int:
    """The most requests that the client had in flight at once, by its own stamps."""
    spans = [(exchange.sent or 0, exchange.closed or 0) for exchange, _ in seen]
    return max(sum(sent <= at < ended for sent, ended in spans) for at, _ in spans)


@pytest.mark.parametrize(("size", "count"), [(4, 10), (1, 3), (8, 5)])
def test_batch_sends_its_size_at_once_and_the_next_when_all_have_ended(size: int, count: int) -> None:
    prompts = [f"question {i}" for i in range(count)]
    sizes = [len(prompts[i : i + size]) for i in range(0, count, size)]
    with MockServer(width=size, total=count, groups=True) as server:
        # A batch is answered once it is there as a whole: were the next sent early, its start would
        # stand between these ends.
        seen = drive(server, "batch", size, prompts)
    runs = [(what, len(list(group))) for what, group in groupby(what for what, _, _ in server.log)]
    assert runs == [run for n in sizes for run in (("start", n), ("end", n))]
    assert statuses(seen) == [("ok", i // size) for i in range(count)]
    assert in_flight(seen) == min(size, count)
    for number, n in enumerate(sizes):
        batch = {prompt for what, prompt, _ in server.log if what == "start"} & set(prompts[number * size :][:n])
        assert len(batch) == n


@pytest.mark.parametrize(("size", "count"), [(3, 9), (1, 3), (8, 5)])
def test_closed_keeps_exactly_its_size_in_flight(size: int, count: int) -> None:
    prompts = [f"question {i}" for i in range(count)]
    width = min(size, count)
    with MockServer(width=size, total=count) as server:
        # Each answer waits until as many as can be are in flight: fewer, and the point would never end.
        seen = drive(server, "closed", size, prompts)
    assert statuses(seen) == [("ok", None)] * count
    assert in_flight(seen) == width
    assert max(flying for _, _, flying in server.log) == width
    kinds = [what for what, _, _ in server.log]
    assert kinds[:width] == ["start"] * width
    assert kinds[width:] == ["end", "start"] * (count - width) + ["end"] * width
    assert [prompt for what, prompt, _ in server.log if what == "start"][width:] == prompts[width:]


def test_open_sends_on_schedule_whatever_is_still_unanswered() -> None:
    prompts = [f"question {i}" for i in range(6)]
    times = [0.0, 0.02, 0.02, 0.15, 0.151, 0.7]
    with MockServer(width=6, total=6) as server:
        # Nothing is answered before all are there: a load that waited for answers would never end.
        seen = drive(server, "open", 2, prompts, times=times)
    assert statuses(seen) == [("ok", None)] * 6 and in_flight(seen) == 6
    start = seen[0][0].scheduled
    assert [exchange.scheduled - start for exchange, _ in seen] == pytest.approx(times)
    assert all((exchange.sent or 0) >= exchange.scheduled for exchange, _ in seen)
    assert [prompt for what, prompt, _ in server.log if what == "start"][3:] == prompts[3:]


def test_a_late_request_counts_from_its_time() -> None:
    async def asleep(self: client.Client, count: int) -> None:
        """Opening connections takes the loop for longer than the requests are apart."""
        time.sleep(0.3)

    with MockServer() as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(client.Client, "open", asleep)
        seen = drive(server, "open", 1, ["a", "b"], times=[0.05, 0.1])
    exchanges = [exchange for exchange, _ in seen]
    assert exchanges[1].scheduled - exchanges[0].scheduled == pytest.approx(0.05)
    assert all((exchange.sent or 0) - exchange.scheduled > 0.1 for exchange in exchanges)


@pytest.mark.parametrize("load", ["batch", "closed"])
def test_a_failure_takes_its_place_and_the_load_goes_on(load: str) -> None:
    with MockServer() as server:
        seen = drive(server, load, 2, ["ok", "close", "http-500", "ok", "reset", "ok"])
    assert [status for status, _ in statuses(seen)] == ["ok", "truncated", "http", "ok", "truncated", "ok"]
