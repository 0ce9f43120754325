"""A client that never has more requests in flight than it may, for servers that are not ours."""

from __future__ import annotations

import ssl

from .client import Client, HttpExchange, clock


class BoundedClient(Client):
    """Sends no request while `most` are in flight: it then has failed ("limit") without having been sent.

    It does not wait instead: what a client holds back would be called the server's delay.
    """

    def __init__(self, host: str, port: int, timeout_s: float, tls: ssl.SSLContext | None, most: int) -> None:
        super().__init__(host, port, timeout_s, tls)
        self.most = most
        self._in_flight = 0

    async def exchange(self, request: bytes, scheduled: float) -> HttpExchange:
        """See `Client.exchange`."""
        if self._in_flight >= self.most:
            error = f"not sent: {self.most} requests were in flight, and no more are allowed (max_in_flight)"
            return HttpExchange(scheduled, closed=clock(), failure="limit", error=error)
        self._in_flight += 1
        try:
            return await super().exchange(request, scheduled)
        finally:
            self._in_flight -= 1

    async def open(self, count: int) -> None:
        """See `Client.open`; never more connections than requests may be in flight."""
        await super().open(min(count, self.most))
