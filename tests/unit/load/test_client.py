"""The client against a server that misbehaves in every way: what is reported, what is left alone, what is left over."""

from __future__ import annotations

import asyncio
import gc
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from helpers.mock_server import HOST, MockServer, eventually
from helpers.sse_fixtures import ANSWER, FAULTS, FINE, OUTPUT_TOKENS, THINK_CLOSE, THOUGHTS, WHOLE
from rllm_serving.analysis.validity import ClientHealth
from rllm_serving.load import client
from rllm_serving.load.client import Client, HttpExchange, clock
from rllm_serving.load.patterns import batch
from rllm_serving.load.requests import build_http_request
from rllm_serving.load.stream import RequestResult, decode

Seen = tuple[HttpExchange, RequestResult]
TIMEOUT_S = 4.0
SLOW = ("hang", "silent", "drip")

# fault: status, http_status, words of the reason, whether tokens came before it
EXPECTED = {
    "reset": ("truncated", 200, "cut off before its end", True),
    "close": ("truncated", 200, "cut off before its end: closed by the server", True),
    "close-at-once": ("truncated", 200, "cut off before its end: closed by the server", False),
    "hang": ("timeout", 200, "no end after 4 s", True),
    "silent": ("timeout", None, "no end after 4 s", False),
    "drip": ("timeout", 200, "no end after 4 s", True),
    "drop": ("connection", None, "lost before an answer", False),
    "http-500": ("http", 500, "HTTP 500: .*the engine is dead", False),
    "http-400": ("http", 400, "HTTP 400: .*max_tokens is too large", False),
    "error-event": ("http", 200, "error within the stream: .*EngineCore encountered", True),
    "bad-utf8": ("protocol", 200, "not a completion chunk: .*utf-8", True),
    "not-json": ("protocol", 200, "not a completion chunk", True),
    "nothing-but-choices": ("truncated", 200, "without a finish reason", False),
    "no-usage": ("protocol", 200, "no usage", True),
    "no-done": ("truncated", 200, "without \\[DONE\\]", True),
    "no-finish": ("truncated", 200, "without a finish reason", True),
    "aborted": ("truncated", 200, "gave the request up: abort", True),
    "wrong-type": ("protocol", 200, "'text/html' is not text/event-stream", False),
    "not-http": ("protocol", None, "not HTTP", False),
}


def requests(port: int, names: Sequence[str]) -> list[bytes]:
    bodies = ({"messages": [{"role": "user", "content": name}], "stream": True} for name in names)
    return [build_http_request(HOST, port, "/v1/chat/completions", body) for body in bodies]


def send(port: int, names: Sequence[str], size: int = 0, timeout_s: float = 30.0) -> list[Seen]:
    """Exchanges and outcomes of `names`, sent in batches of `size` (all at once when 0)."""
    _, seen = client.run(HOST, port, requests(port, names), batch, size or len(names), timeout_s)
    return [(exchange, decode(exchange, THINK_CLOSE)) for exchange, _ in seen]


def assert_whole(seen: Seen) -> None:
    exchange, outcome = seen
    assert (outcome.status, outcome.error, outcome.http_status) == ("ok", None, 200)
    assert (outcome.reasoning_text, outcome.answer_text) == ("".join(THOUGHTS), "".join(ANSWER))
    assert outcome.output_tokens == OUTPUT_TOKENS == sum(tokens or 0 for tokens in outcome.chunk_tokens)
    assert (outcome.reasoning_tokens, outcome.answer_tokens, outcome.finish_reason) == (5, 2, "stop")
    times = [exchange.scheduled, exchange.sent, outcome.first_token, outcome.first_visible_token, outcome.last_token]
    known = [time for time in [*times, exchange.closed] if time is not None]
    assert len(known) == 6 and known == sorted(known)
    assert exchange.stamps == sorted(exchange.stamps) and len(exchange.stamps) == len(exchange.pieces)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def server() -> Iterator[MockServer]:
    with MockServer() as scripted:
        yield scripted


@pytest.fixture(scope="module")
def together() -> dict[str, list[Seen]]:
    """Every fault at the same time, each between two requests that nothing is wrong with."""
    names = [name for fault in FAULTS for name in (fault, "ok", "ok")]
    assert set(FAULTS) == set(EXPECTED)
    found: dict[str, list[Seen]] = {}
    with MockServer() as scripted:
        for name, seen in zip(names, send(scripted.port, names, timeout_s=TIMEOUT_S), strict=True):
            found.setdefault(name, []).append(seen)
        # The client's side of every connection is closed; the server sees each of them go.
        assert eventually(lambda: scripted.open == 0)
    return found


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_reported_with_its_reason_and_no_end_is_made_up(fault: str, together: dict[str, list[Seen]]) -> None:
    status, http_status, reason, begun = EXPECTED[fault]
    [(exchange, outcome)] = together[fault]
    assert (outcome.status, outcome.http_status) == (status, http_status)
    with pytest.raises(RuntimeError, match=reason):
        raise RuntimeError(outcome.error)
    assert outcome.last_token is None and exchange.closed is not None and exchange.sent is not None
    assert (outcome.first_token is not None) == begun == bool(outcome.chunk_times)
    if begun:
        assert outcome.reasoning_text.startswith(THOUGHTS[0])
    else:
        assert outcome.output_tokens in (None, OUTPUT_TOKENS) and outcome.first_visible_token is None


def test_the_streams_beside_the_faults_are_unmoved(together: dict[str, list[Seen]]) -> None:
    assert len(together["ok"]) == 2 * len(FAULTS)
    for seen in together["ok"]:
        assert_whole(seen)


@pytest.mark.parametrize("name", FINE)
def test_no_way_of_cutting_a_stream_changes_what_is_read(name: str, server: MockServer) -> None:
    for seen in send(server.port, [name, name], size=1):
        assert_whole(seen)


def test_each_piece_has_the_time_at_which_it_came(server: MockServer) -> None:
    [(exchange, _)] = send(server.port, ["ok"])
    assert b"".join(exchange.pieces) == b"".join(FINE["ok"].pieces)
    assert len(exchange.pieces) == len(FINE["ok"].pieces)


def test_faults_leave_no_connection_file_or_task(server: MockServer) -> None:
    names = [name for name in FAULTS if name not in SLOW]
    left: list[int] = []

    async def drive(c: Client, r: Sequence[bytes], size: int) -> list[tuple[HttpExchange, int | None]]:
        ended = await batch(c, r, size)
        left.append(len(asyncio.all_tasks()))
        return ended

    gc.collect()
    before = open_files()
    for _ in range(3):
        client.run(HOST, server.port, requests(server.port, [*names, "hang"]), drive, len(names) + 1, 0.5)
    assert left == [2] * 3  # the point and the pulse that watches the loop
    # The server's own ends are files of this process, too.
    assert eventually(lambda: server.open == 0 and open_files() == before)
    assert gc.isenabled()


@pytest.mark.parametrize("apart", [False, True])
def test_an_interim_response_is_not_the_answer(apart: bool) -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nContent-Type: text/html\r\n\r\n"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n" % len(WHOLE)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):  # over one connection
            await reader.readuntil(b"\r\n\r\n")
            for data in (interim, head + WHOLE) if apart else (interim + head + WHOLE,):
                writer.write(data)
                await asyncio.sleep(0.05)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(interim)
        writer.close()

    async def point() -> list[HttpExchange]:
        server = await asyncio.start_server(serve, HOST, 0)
        port = server.sockets[0].getsockname()[1]
        c = Client(HOST, port, 10.0)
        found = [await c.exchange(b"POST / HTTP/1.1\r\n\r\n", clock()) for _ in range(3)]
        server.close()
        return found

    *whole, lost = asyncio.run(point())
    for exchange in whole:
        assert_whole((exchange, decode(exchange, THINK_CLOSE)))
        assert exchange.content_type == "text/event-stream"
    assert (lost.failure, lost.http_status) == ("connection", None)


def test_a_refused_connection_is_a_failed_request_and_no_crash() -> None:
    with socket.socket() as closed:
        closed.bind((HOST, 0))
        seen = send(closed.getsockname()[1], ["ok", "ok"])
    for exchange, outcome in seen:
        assert outcome.status == "connection" and "cannot connect" in str(outcome.error)
        assert exchange.sent is None and outcome.http_status is None and outcome.first_token is None


def test_a_connection_closed_between_requests_is_replaced_silently(server: MockServer) -> None:
    """Whether the client has seen the end of the old connection (leave) or not yet (drop-reused)."""
    for seen in send(server.port, ["leave", "ok", "drop-reused", "ok", "leave", "ok"], size=1):
        assert_whole(seen)
    assert server.accepted == 4


def test_a_request_is_replaced_over_a_fresh_connection_however_many_old_ones_are_dead(server: MockServer) -> None:
    for seen in send(server.port, ["ok"] * 4 + ["drop-reused"], size=4):
        assert_whole(seen)


def test_a_request_that_was_taken_up_is_never_sent_again(server: MockServer) -> None:
    statuses = [outcome.status for _, outcome in send(server.port, ["ok", "close", "ok", "drop"], size=1)]
    assert statuses == ["ok", "truncated", "ok", "connection"]
    assert server.received.count("POST /v1/chat/completions") == 5  # the dropped one twice: it was not taken up


def test_the_time_limit_of_a_request_ends_with_it(server: MockServer) -> None:
    async def drive(c: Client, r: Sequence[bytes], size: int) -> list[tuple[HttpExchange, int | None]]:
        first = await c.exchange(r[0], clock())
        await asyncio.sleep(1.5)  # past the limit of the first
        return [(first, None), (await c.exchange(r[1], clock()), None)]

    _, seen = client.run(HOST, server.port, requests(server.port, ["ok", "ok"]), drive, 1, 1.0)
    for exchange, _ in seen:
        assert_whole((exchange, decode(exchange, THINK_CLOSE)))
    assert server.accepted == 1


def test_connections_are_open_before_the_point_starts_and_used_again(server: MockServer) -> None:
    opened: list[int] = []

    async def drive(c: Client, r: Sequence[bytes], size: int) -> list[tuple[HttpExchange, int | None]]:
        opened.append(len(c._idle))
        return await batch(c, r, size)

    start, seen = client.run(HOST, server.port, requests(server.port, ["ok"] * 12), drive, 4, 30)
    assert opened == [4] and server.accepted == 4
    assert all(start <= exchange.scheduled <= (exchange.sent or 0) for exchange, _ in seen)
    assert start <= clock()


def test_a_request_is_one_complete_http_message() -> None:
    head, _, body = build_http_request(HOST, 7, "/v1/x", {"q": "Grüße"}).partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0] == b"POST /v1/x HTTP/1.1" and body == '{"q":"Grüße"}'.encode()
    assert b"Content-Length: %d" % len(body) in head.split(b"\r\n") and b"Host: 127.0.0.1:7" in head


def test_a_block_of_the_loop_counts_for_every_look_that_it_prevented() -> None:
    assert client.pulse_lags(-0.001) == [0.0] and client.pulse_lags(0.015) == [0.015]
    assert client.pulse_lags(0.05) == pytest.approx([0.05, 0.03, 0.01])
    # Blocked for 0.5 s of every 5.5: one look of 251 is late, but 25 of 275 were prevented.
    period = [0.0] * 250 + client.pulse_lags(0.5)
    assert len(period) == 275 and np.quantile(period * 10, 0.99) > 0.4


@pytest.mark.parametrize("after_s", [0.0, 0.3])
def test_a_blocked_loop_is_seen_even_when_the_point_ends_with_the_block(after_s: float) -> None:
    health = ClientHealth()

    async def point() -> None:
        with client.monitored(health):
            await asyncio.sleep(0.1)
            time.sleep(0.3)
            if after_s:
                await asyncio.sleep(after_s)

    asyncio.run(point())
    late = [lag for lag in health.lags if lag > 0.05]
    assert max(late) > 0.27 and len(late) >= 11
    assert health.wall_s > 0.4


def test_the_collector_rests_while_a_point_runs(server: MockServer) -> None:
    during: list[bool] = []

    async def drive(c: Client, r: Sequence[bytes], size: int) -> list[tuple[HttpExchange, int | None]]:
        during.append(gc.isenabled())
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        client.run(HOST, server.port, requests(server.port, ["ok"]), drive, 1, 30)
    assert during == [False] and gc.isenabled()
    assert eventually(lambda: server.open == 0)
