"""Samples of a server that is not ours: its page of metrics, where it has one, and what the client's machine does."""

from __future__ import annotations

import http.client
from collections.abc import Iterable, Mapping

import psutil

from ..serving.endpoints import Address
from .engine_metrics import EngineMetrics, PageReader
from .telemetry import GpuSampler, MetricsSampler

PAGE_TIMEOUT_S = 2.0


class EndpointPages(PageReader):
    """Asks a server that already runs for its page of metrics.

    Args:
        page: where it is; None: there is none.
        headers: of a request for it.
        metrics: names of metrics; lines of others are left out.
    """

    def __init__(self, page: Address | None, headers: Mapping[str, str], metrics: Iterable[str]) -> None:
        super().__init__(0, metrics, PAGE_TIMEOUT_S)
        self._page = page
        if page is None:
            return
        self._path, self._headers = page.path, dict(headers)
        if page.tls:
            self._connection = http.client.HTTPSConnection(
                page.host, page.port, timeout=PAGE_TIMEOUT_S, context=page.context()
            )
        else:
            self._connection = http.client.HTTPConnection(page.host, page.port, timeout=PAGE_TIMEOUT_S)

    def page(self) -> bytes | None:
        """See `PageReader.page`."""
        return None if self._page is None else super().page()


class EndpointSampler(MetricsSampler):
    """Samples a server that already runs; nothing is known of its processes.

    Args:
        pages: asks for its metrics.
        metrics: reads them.
        hz: samples a second of a long point; see `sampling`.
        local: whether it runs on this machine: what it takes of the cores cannot be told from what others take.
    """

    def __init__(self, pages: EndpointPages, metrics: EngineMetrics, hz: float, local: bool) -> None:
        super().__init__(port=0, pid=0, metrics=metrics, hz=hz, gpus=GpuSampler())
        self._own_pages, self._local = pages, local

    def _pages(self) -> PageReader:
        return self._own_pages

    def _tree(self) -> list[psutil.Process]:
        return []

    def _used(self, tree: list[psutil.Process]) -> tuple[int | None, float | None]:
        # One elsewhere takes nothing of these cores.
        return None, None if self._local else 0.0

    def rows(self, start: float, end: float) -> list[dict[str, float | None]]:
        """See `MetricsSampler.rows`; CPU time and energy of the server are missing."""
        found = super().rows(start, end)
        if not self.metrics.sources:
            self.damaged = 0  # no page is missed where there is none
        return [{**row, "host_cpu_cores": None, "host_energy_j": None} for row in found]
