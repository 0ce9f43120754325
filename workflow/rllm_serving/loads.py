"""How requests arrive: one small coroutine a load."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from .client import Client, Driver, Exchange, clock


async def batch(client: Client, requests: Sequence[bytes], size: int) -> list[tuple[Exchange, int | None]]:
    """`size` requests at once, then wait until all have ended, then the next `size`: the paper's load.

    Returns an (exchange, number of its batch from 0) per request, in order.
    """
    results: list[tuple[Exchange, int | None]] = []
    for number, start in enumerate(range(0, len(requests), size)):
        together = requests[start : start + size]
        await client.open(len(together))
        now = clock()
        ended = await asyncio.gather(*(client.exchange(request, now) for request in together))
        results += [(exchange, number) for exchange in ended]
    return results


async def closed(client: Client, requests: Sequence[bytes], size: int) -> list[tuple[Exchange, int | None]]:
    """Constant concurrency: `size` requests in flight, the next is sent as soon as one has ended.

    Returns an (exchange, None) per request, in the order of `requests`.
    """
    results: list[tuple[Exchange, int | None] | None] = [None] * len(requests)
    queue = iter(range(len(requests)))

    async def worker() -> None:
        for index in queue:
            results[index] = (await client.exchange(requests[index], clock()), None)

    await asyncio.gather(*(worker() for _ in range(min(size, len(requests)))))
    return [result for result in results if result is not None]


LOADS: dict[str, Driver] = {"batch": batch, "closed": closed}
