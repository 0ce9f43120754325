"""The engine's own metrics, read from its /metrics page: which columns it fills, and which pages can be believed.

One damaged page is a missing sample: it gives nulls, never a 0 or a part of a sum. A metric that the engine does not
have (any more) is found out once, when the server has answered its first requests.
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import math
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

from prometheus_client.parser import text_string_to_metric_families

from ..serving.engines import MetricSource

log = logging.getLogger(__name__)

Values = dict[str, float | None]
SPECULATION = ("spec_drafted", "spec_accepted", "spec_steps")
"""Columns that a server without speculation has no metric for."""
TRIES = 5
PAUSE_S = 0.05
"""How often, and after which pause, a page that matters is asked for when it comes damaged."""


class PageReader:
    """Asks a server of this machine for its page, over one connection.

    Attributes:
        port: the server's TCP port.
        metrics: names of metrics; lines of others are left out.
    """

    def __init__(self, port: int, metrics: Iterable[str], timeout_s: float = 2.0) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
        self._path, self._headers = "/metrics", dict[str, str]()
        self._prefixes = tuple(metric.encode() for metric in metrics)

    def page(self) -> bytes | None:
        """The page's lines of the metrics; None when it did not come, or not whole."""
        try:
            response = self._ask()
            page = response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return None
        # Its last line ends, too: without a length nothing else tells that the page was cut.
        if response.status != 200 or not page.endswith(b"\n"):
            return None
        return b"\n".join(line for line in page.split(b"\n") if line.startswith(self._prefixes)) + b"\n"

    def _ask(self) -> http.client.HTTPResponse:
        is_reused = self._connection.sock is not None
        try:
            self._connection.request("GET", self._path, headers=self._headers)
            return self._connection.getresponse()
        except ConnectionError:
            # A kept-alive connection that the server has closed says nothing about its page.
            self._connection.close()
            if not is_reused:
                raise
        self._connection.request("GET", self._path, headers=self._headers)
        return self._connection.getresponse()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class EngineMetrics:
    """Reads pages of one server, in the order in which they were taken, and remembers what they have shown.

    Attributes:
        sources: column -> metric.
        missing: column -> why the engine cannot fill it, see `find_missing`; such a column is null.
    """

    def __init__(self, sources: Mapping[str, MetricSource]) -> None:
        self.sources = sources
        self.missing: dict[str, str] = {}
        self._series: dict[str, int] = {}

    @classmethod
    def of_server(
        cls, port: int, sources: Mapping[str, MetricSource], package: Path | None, speculative: str = "none"
    ) -> Self:
        """The metrics of a server that has answered requests and proposes tokens so; see `find_missing`."""
        metrics = cls(sources)
        pages = PageReader(port, metrics.names)
        try:
            metrics.find_missing(pages, package, SPECULATION if speculative == "none" else ())
        finally:
            pages.close()
        return metrics

    @property
    def names(self) -> list[str]:
        """The metrics that are read."""
        return [source.metric for source in self.sources.values()]

    def read(self, page: bytes | None) -> Values:
        """The columns by a page; all None where it is damaged.

        None, too, where the page lacks a metric, or a label set of it, that it has had before.
        """
        samples = _samples(page)
        values: Values = dict.fromkeys(self.sources)
        if not any(source.metric in samples for source in self.sources.values()):
            return values
        for column, source in self.sources.items():
            numbers = samples.get(source.metric, [])
            known = self._series.get(column, 0)
            if column in self.missing or len(numbers) < known or not all(map(math.isfinite, numbers)):
                continue
            self._series[column] = len(numbers)
            if numbers:
                values[column] = max(numbers) if source.combine == "max" else sum(numbers)
            else:
                values[column] = source.absent
        return values

    def is_whole(self, page: bytes | None) -> bool:
        """Whether a page has all that the server has shown so far."""
        samples = _samples(page)
        return all(len(samples.get(self.sources[name].metric, [])) >= count for name, count in self._series.items())

    def find_missing(self, pages: PageReader, package: Path | None, unused: Iterable[str] = ()) -> None:
        """Set `missing`, by pages of a server that has answered requests, and log it.

        Args:
            pages: asks for them.
            package: folder of the engine's Python package. What appears only once it has moved is missing if no module
                in it names it.
            unused: columns that this server has no use for, so that nobody misses them.
        """
        answered = False
        for attempt in range(TRIES):
            if attempt:
                time.sleep(PAUSE_S)
            page = pages.page()
            answered = answered or page is not None
            self.read(page)
            shown = {column for column, count in self._series.items() if count}
            absent = {column: source for column, source in self.sources.items() if column not in shown}
            if page is not None and not any(source.absent is None for source in absent.values()):
                break
        absent = {column: source for column, source in absent.items() if column not in unused}
        lazy = {source.metric for source in absent.values() if source.absent is not None}
        unnamed = lazy - _named(package, lazy)
        self.missing = {
            column: f"the engine has no metric {source.metric}" if answered else "no page came from /metrics"
            for column, source in absent.items()
            if source.absent is None or source.metric in unnamed
        }
        for column, reason in self.missing.items():
            log.warning("%s and all that follows from it will be null: %s", column, reason)


def _samples(page: bytes | None) -> dict[str, list[float]]:
    """The values of each metric of a page; none of a page that cannot be read."""
    samples: dict[str, list[float]] = {}
    if page is None:
        return samples
    try:
        for family in text_string_to_metric_families(page.decode("utf-8")):
            for sample in family.samples:
                samples.setdefault(sample.name, []).append(sample.value)
    except Exception:  # whatever the parser of a damaged text runs into
        return {}
    return samples


def _named(package: Path | None, metrics: Iterable[str]) -> set[str]:
    """The metrics that a package's modules name, with or without their prefix and `_total`; all without a package."""
    if package is None or not package.is_dir():
        return set(metrics)
    bare = {metric: metric.partition(":")[2].removesuffix("_total").encode() for metric in metrics}
    named: set[str] = set()
    for file in package.rglob("*.py") if bare else ():
        with contextlib.suppress(OSError):
            text = file.read_bytes()
            named |= {metric for metric, name in bare.items() if name in text}
        if len(named) == len(bare):
            break
    return named
