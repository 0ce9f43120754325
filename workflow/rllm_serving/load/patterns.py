"""How requests arrive: one small coroutine a load."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Sequence

from .client import Client, Driver, HttpExchange, clock
from .file_limit import allow_connections


async def batch(client: Client, requests: Sequence[bytes], size: int) -> list[tuple[HttpExchange, int | None]]:
    """`size` requests at once, then wait until all have ended, then the next `size`: the paper's load.

    Returns an (exchange, number of its batch from 0) per request, in order.
    """
    results: list[tuple[HttpExchange, int | None]] = []
    for number, start in enumerate(range(0, len(requests), size)):
        together = requests[start : start + size]
        await client.open(len(together))
        now = clock()
        ended = await asyncio.gather(*(client.exchange(request, now) for request in together))
        results += [(exchange, number) for exchange in ended]
    return results


async def closed(client: Client, requests: Sequence[bytes], size: int) -> list[tuple[HttpExchange, int | None]]:
    """Constant concurrency: `size` requests in flight, the next is sent as soon as one has ended.

    Returns an (exchange, None) per request, in the order of `requests`.
    """
    results: list[tuple[HttpExchange, int | None] | None] = [None] * len(requests)
    queue = iter(range(len(requests)))

    async def worker() -> None:
        for index in queue:
            results[index] = (await client.exchange(requests[index], clock()), None)

    await asyncio.gather(*(worker() for _ in range(min(size, len(requests)))))
    return [result for result in results if result is not None]


CONNECT_AHEAD_S = 0.2
"""Connections for the requests of the next so many seconds are open before these are due."""


async def open_loop(
    client: Client, requests: Sequence[bytes], size: int, times: Sequence[float]
) -> list[tuple[HttpExchange, int | None]]:
    """Each request at its own time (s from now, ascending), however many are still being answered.

    size: connections that were opened for it beforehand. A request that is sent late counts from its time all the
    same. Returns an (exchange, None) per request, in order. Raises FileLimitError when this process may not have a
    connection for each: a server that falls behind has them all at once.
    """
    allow_connections(len(requests))
    start = clock()
    opener = asyncio.create_task(_open_ahead(client, [start + time for time in times]))
    sent = []
    for request, time in zip(requests, times, strict=True):
        # A timer may go off a little early: it counts milliseconds.
        while (wait := start + time - clock()) > 0:
            await asyncio.sleep(wait)
        sent.append(asyncio.create_task(client.exchange(request, start + time)))
    exchanges = await asyncio.gather(*sent)
    await opener
    return [(exchange, None) for exchange in exchanges]


async def _open_ahead(client: Client, due: Sequence[float]) -> None:
    """Keep as many connections idle as requests are due soon: servers close what is idle for a few seconds."""
    while due and (now := clock()) < due[-1]:
        soon = bisect_right(due, now + 2 * CONNECT_AHEAD_S) - bisect_right(due, now)
        await client.open(soon)
        await asyncio.sleep(CONNECT_AHEAD_S)


LOADS: dict[str, Driver] = {"batch": batch, "closed": closed, "open": open_loop, "trace": open_loop}
"""Coroutine of each kind of load; those of `open` and `trace` also take the requests' times."""
