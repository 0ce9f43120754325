"""The measuring client: raw HTTP/1.1 over asyncio, doing the least it can while streams arrive.

While a point runs, each piece of a response body is stamped on the monotonic clock and kept as bytes; nothing is
decoded until the stream has ended (see `stream`). Connections are opened and requests serialised before the start.
"""

from __future__ import annotations

import asyncio
import gc
import math
import ssl
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast

import httptools
import uvloop

from ..analysis.validity import ClientHealth
from .file_limit import allow_connections

clock = time.perf_counter
"""Seconds on the monotonic clock that every stamp of a point is taken from (CLOCK_MONOTONIC on Linux)."""


@dataclass(slots=True)
class HttpExchange:
    """What was seen of one request: raw bytes with their stamps, and how it ended.

    scheduled, sent, closed: seconds on `clock`. stamps[i] is when pieces[i] was received. location: where a redirect
    leads. failure is None or one of "timeout", "connection", "protocol", "truncated", "limit" (not sent: as many were
    in flight as may be) with the reason in `error`.
    """

    scheduled: float
    sent: float | None = None
    closed: float | None = None
    http_status: int | None = None
    content_type: str = ""
    location: str = ""
    stamps: list[float] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)
    failure: str | None = None
    error: str | None = None


class _Connection(asyncio.Protocol):
    """One connection; carries one exchange at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.exchange: HttpExchange | None = None
        self.done: asyncio.Future[None] | None = None
        self.used = False
        self.begun = False
        self._parser: httptools.HttpResponseParser | None = None
        self._now = 0.0
        self._complete = False
        self._framed = False
        # deque, not list: growing a list reallocates and page-faults mid-stream.
        self._stamps: deque[float] = deque()
        self._pieces: deque[bytes] = deque()

    @property
    def open(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    @property
    def _interim(self) -> bool:
        """Whether the message that is read only announces the answer (100 Continue, 103 Early Hints)."""
        return self._parser is not None and self._parser.get_status_code() < 200

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's own class, of the same interface

    def connection_lost(self, reason: Exception | None) -> None:
        self.transport = None
        exchange = self.exchange
        if exchange is None or self._complete:
            return
        if exchange.http_status is not None and not self._framed and reason is None:
            self._finish(None, None)  # a body without length or chunks ends with its connection (RFC 9112, 6.3)
        elif exchange.http_status is None:
            self._finish("connection", f"connection lost before an answer: {reason or 'closed by the server'}")
        else:
            self._finish("truncated", f"stream cut off before its end: {reason or 'closed by the server'}")

    def data_received(self, data: bytes) -> None:
        self._now = clock()
        if self._parser is None or self._complete:
            return
        self.begun = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._finish("protocol", f"not HTTP: {error}")
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        lower = name.lower()
        self._framed = self._framed or lower in (b"content-length", b"transfer-encoding")
        if self.exchange is not None and lower == b"content-type":
            self.exchange.content_type = value.decode("latin-1")
        elif self.exchange is not None and lower == b"location":
            self.exchange.location = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        if self.exchange is not None and not self._interim:
            self.exchange.http_status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self._stamps.append(self._now)
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        if self._interim:
            if self.exchange is not None:
                self.exchange.content_type = ""
            self._framed = False
            return
        keep = self._parser is not None and self._parser.should_keep_alive()
        self._finish(None, None)
        if not keep:
            self.close()

    def send(self, request: bytes, exchange: HttpExchange) -> asyncio.Future[None]:
        """Write a request; the future is done when the exchange has ended, well or not."""
        assert self.transport is not None
        self.exchange, self.begun, self._complete, self._framed = exchange, False, False, False
        self._stamps, self._pieces = deque(), deque()
        self._parser = httptools.HttpResponseParser(self)
        self.done = asyncio.get_running_loop().create_future()
        exchange.sent = clock()
        self.transport.write(request)
        self.used = True
        return self.done

    def abort_on_timeout(self, timeout_s: float) -> None:
        """End an exchange that took too long, and the connection with it."""
        self._finish("timeout", f"no end after {timeout_s:g} s")
        self.close()

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()
            self.transport = None

    def _finish(self, failure: str | None, error: str | None) -> None:
        if self._complete or self.exchange is None:
            return
        self._complete = True
        self.exchange.closed = clock()
        self.exchange.stamps, self.exchange.pieces = list(self._stamps), list(self._pieces)
        self.exchange.failure, self.exchange.error = failure, error
        if self.done is not None and not self.done.done():
            self.done.set_result(None)


class Client:
    """Sends prepared requests over a pool of connections opened beforehand; tls: checks the server's certificate."""

    def __init__(self, host: str, port: int, timeout_s: float, tls: ssl.SSLContext | None = None) -> None:
        self.host, self.port, self.timeout_s, self.tls = host, port, timeout_s, tls
        self._idle: deque[_Connection] = deque()

    async def open(self, count: int) -> None:
        """Open connections until `count` are idle. Failures are ignored here; `exchange` retries and records them."""
        self._idle = deque(connection for connection in self._idle if connection.open)
        missing = max(0, count - len(self._idle))
        opened = await asyncio.gather(*(self._connect() for _ in range(missing)), return_exceptions=True)
        self._idle.extend(connection for connection in opened if isinstance(connection, _Connection))

    async def _connect(self) -> _Connection:
        create = asyncio.get_running_loop().create_connection
        _, connection = await create(_Connection, self.host, self.port, ssl=self.tls)
        return connection

    async def exchange(self, request: bytes, scheduled: float) -> HttpExchange:
        """Send one request and wait for the end of its answer. Never raises for what the server does.

        A kept-alive connection that the server closed while the request was on its way, before any byte of an
        answer, is replaced once, by a fresh one: the server never took that request up.
        """
        result = HttpExchange(scheduled)
        while True:
            try:
                connection = await (self._take() if result.sent is None else self._connect())
            except OSError as error:
                result.closed = clock()
                result.failure, result.error = "connection", f"cannot connect: {error}"
                return result
            reused = connection.used
            first_sent = result.sent
            done = connection.send(request, result)
            result.sent = result.sent if first_sent is None else first_sent
            timer = asyncio.get_running_loop().call_later(self.timeout_s, connection.abort_on_timeout, self.timeout_s)
            await done
            timer.cancel()
            connection.exchange = None
            if connection.open:
                self._idle.append(connection)
            if result.failure == "connection" and reused and not connection.begun:
                result = HttpExchange(scheduled, sent=result.sent)
                continue
            return result

    async def _take(self) -> _Connection:
        while self._idle:
            connection = self._idle.popleft()
            if connection.open:
                return connection
        return await self._connect()

    def close(self) -> None:
        """Close every idle connection."""
        while self._idle:
            self._idle.pop().close()


@contextmanager
def gc_disabled() -> Iterator[None]:
    """Keep the garbage collector from pausing the loop while a point runs."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


@contextmanager
def monitored(health: ClientHealth) -> Iterator[None]:
    """Watch the running event loop and this process's CPU time until the context is left; `health` receives both.

    A loop that was blocked until the end is seen, too: the pulse that is overdue then counts.
    """
    due = clock() + PULSE_S

    async def pulse() -> None:
        nonlocal due
        while True:
            due = clock() + PULSE_S
            await asyncio.sleep(PULSE_S)
            health.lags += pulse_lags(clock() - due)

    pulsing = asyncio.ensure_future(pulse())
    cpu, wall = time.process_time(), clock()
    try:
        yield
    finally:
        health.cpu_s, health.wall_s = time.process_time() - cpu, clock() - wall
        pulsing.cancel()
        if (overdue := clock() - due) > 0:
            health.lags += pulse_lags(overdue)


PULSE_S = 0.02
"""Time between two looks at how late the event loop is."""


def pulse_lags(lag: float) -> list[float]:
    """How late the pulses were of which the first came `lag` s late: its own and those that were due before it came.

    A blocked loop skips the looks at itself; without them a long block would weigh no more than one short look
    (coordinated omission, corrected as HdrHistogram does it).
    """
    return [max(0.0, lag - missed * PULSE_S) for missed in range(max(1, math.ceil(lag / PULSE_S)))]


Driver = Callable[..., Awaitable[list[tuple[HttpExchange, int | None]]]]
"""A load: takes the client, the requests, and how many connections to open beforehand."""


def run(
    host: str,
    port: int,
    requests: Sequence[bytes],
    drive: Driver,
    size: int,
    timeout_s: float,
    health: ClientHealth | None = None,
    make: Callable[[str, int, float], Client] = Client,
) -> tuple[float, list[tuple[HttpExchange, int | None]]]:
    """Drive `requests` under a load; returns the point's start on `clock` and an (exchange, batch) per request.

    size: requests at once, for which connections are opened beforehand; health: filled in; make: the
    client. Raises FileLimitError when this process may not have so many open.
    """
    allow_connections(min(size, len(requests)))
    result: tuple[float, list[tuple[HttpExchange, int | None]]] | None = None

    async def point() -> None:
        nonlocal result  # returned by the task, it would be printed: Runner asks signal.getsignal, which takes its repr
        client = make(host, port, timeout_s)
        try:
            await client.open(min(size, len(requests)))
            with gc_disabled(), monitored(health or ClientHealth()):
                result = clock(), await drive(client, requests, size)
        finally:
            client.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(point())
    assert result is not None
    return result
