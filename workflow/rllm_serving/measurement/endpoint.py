"""A run on a server that already runs: asked as it understands it, not started, not flushed, not stopped."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..analysis import validity
from ..load import client, endpoint_stream
from ..load.bounded import BoundedClient
from ..load.patterns import LOADS, batch
from ..load.requests import PlannedRequest, build_bodies, build_http_request, plan_requests
from ..load.stream import RequestResult
from ..load.token_counter import TokenCounter, tokenizer_file
from ..serving import hardware
from ..serving.endpoints import Address, Endpoint
from ..serving.engines import ENGINES
from ..serving.gpus import GpuLease
from ..serving.memory import KvPool
from ..serving.running import RunningServer
from ..serving.target import Target
from ..study.design import Load, Point, Run
from .endpoint_telemetry import EndpointPages, EndpointSampler
from .engine_metrics import SPECULATION, EngineMetrics
from .journal import MeasuredPoint
from .paths import RunPaths
from .run import Exchanges, Measurement
from .telemetry import MetricsSampler
from .warm_up import OPEN_CONNECTIONS, tokens_per_s, warm_up_point

UNKNOWN_ENVIRONMENT: dict[str, Any] = {
    "engine": None,
    "engine_version": None,
    "python": None,
    "lock": None,
    "packages": {},
}
"""Of a server that is not ours."""
PROOF_TOKENS = 16
"""Budget of the request that proves that a server answers."""

log = logging.getLogger(__name__)


class EndpointMeasurement(Measurement):
    """Measures one run on a server that already runs; `execute` does it all.

    Attributes:
        endpoint: the server.
        study: name of the study, which requests carry.
    """

    def __init__(self, run: Run, paths: RunPaths, device: str, study: str) -> None:
        assert run.endpoint is not None
        lists = {name: tuple(value) for name, value in run.endpoint.items() if isinstance(value, list)}
        self.endpoint = Endpoint(**{**run.endpoint, **lists})
        self.study = study
        self._served: set[tuple[str | None, str | None]] = set()
        super().__init__(run, paths, device)

    def _prepare(self) -> None:
        self.sources = {} if self.endpoint.metrics is None else ENGINES[self.endpoint.metrics].metrics
        tokenizer = self.endpoint.tokenizer
        digest = None if tokenizer is None else hashlib.sha256(tokenizer_file(tokenizer).read_bytes()).hexdigest()
        self.model = {"source": "served", "id": self.endpoint.model, "url": self.endpoint.url, "tokenizer": digest}
        self.draft, self.environment = None, dict(UNKNOWN_ENVIRONMENT)

    @cached_property
    def decode(self) -> Callable[[client.HttpExchange], RequestResult]:
        """What reads an answer."""
        tokenizer = self.endpoint.tokenizer
        reading = endpoint_stream.Reading(
            parses_reasoning=self.run.reasoning_parser is not None,
            tags=self.endpoint.thinking == "tags",
            running_usage="continuous_usage_stats" in self.endpoint.extras,
            counter=None if tokenizer is None else TokenCounter(tokenizer),
            key=self.endpoint.key(),
        )

        def read(exchange: client.HttpExchange) -> RequestResult:
            result, served = endpoint_stream.decode(exchange, reading)
            self._served |= served
            return result

        return read

    def _server(self, gpus: GpuLease, pool: KvPool | None) -> Target:
        return RunningServer(self.endpoint, self._prove, self.paths.server_log)

    def _prove(self) -> str | None:
        """Send one small request of the first point; returns why it failed, or None."""
        point = replace(self.run.points[0], load=Load(type="batch", size=1), num_questions=1, n_samples=1)
        point = replace(point, budget=min(PROOF_TOKENS, point.budget))
        planned = plan_requests(self.run, point, self.questions[point.dataset])
        _, [(exchange, _)] = self._exchange(point, planned, validity.ClientHealth(), batch, 1)
        return self.decode(exchange).error

    def _session(self, server: Target, pool: KvPool | None, start: Mapping[str, Any]) -> dict[str, Any]:
        assert isinstance(server, RunningServer)
        started = datetime.now(UTC).isoformat(timespec="seconds")
        return {
            "id": f"{started}/{server.url}",
            "controlled": False,
            "endpoint": {"url": server.url, "first_answer_s": server.startup_s, **server.reported},
            "command": None,
            "environment": {},
            "startup_seconds": None,
            "server_log": str(server.record),
            # Nothing was asked of it, and nothing is known of how it runs.
            "asked": {},
            "effective": {},
            "differences": [],
            # Of the client's machine; of the server's nothing is known.
            "hardware": hardware.describe(),
            "git_commit": hardware.git_commit(Path(__file__).parent),
        }

    def _prompt_tokens(self, server: Target) -> None:
        """Which tokenizer a server has that is not ours is not known."""

    def _warm_up(self, server: Target, points: list[Point]) -> list[float]:
        """Send as many rounds of the largest load as the config says; returns their rates (tokens/s)."""
        rates = []
        point = warm_up_point(points)
        planned = plan_requests(self.run, point, self.questions[point.dataset])
        # Of an open-loop load, too, no more at once than are allowed.
        planned = planned[: self.endpoint.max_in_flight]
        for _ in range(self.endpoint.warm_up_rounds):
            start, exchanges = self._send(server, point, planned, validity.ClientHealth())
            rates.append(tokens_per_s(start, [self.decode(exchange) for exchange, _ in exchanges]))
        return rates

    def _send(
        self, server: Target, point: Point, planned: list[PlannedRequest], health: validity.ClientHealth
    ) -> tuple[float, Exchanges]:
        pattern = LOADS[point.load.type]
        if point.load.open_loop:
            pattern = partial(pattern, times=[request.time for request in planned])
        return self._exchange(point, planned, health, pattern, point.load.size or OPEN_CONNECTIONS)

    def _exchange(
        self,
        point: Point,
        planned: list[PlannedRequest],
        health: validity.ClientHealth,
        pattern: client.Driver,
        size: int,
    ) -> tuple[float, Exchanges]:
        address = self.endpoint.completions
        headers = {"Host": address.authority, **self.endpoint.headers(self._experiment_id(point))}
        bodies = build_bodies(self.run, point, planned, self.paths.templates[point.dataset])
        requests = [
            build_http_request(address.host, address.port, address.path, self.endpoint.body(body), headers)
            for body in bodies
        ]
        make = partial(BoundedClient, tls=address.context(), most=self.endpoint.max_in_flight)
        timeout_s = self.run.measurement["request_timeout_s"]
        return client.run(address.host, address.port, requests, pattern, size, timeout_s, health, make)

    def _experiment_id(self, point: Point) -> str:
        return f"{self.study}/{self.run.folder}/{point.name}"

    def _pages(self) -> EndpointPages:
        page = self.endpoint.metrics_page
        own = page is not None and _origin(page) == _origin(self.endpoint.completions)
        # The key goes to the server that it is for, and to no other.
        headers = self.endpoint.headers(f"{self.study}/{self.run.folder}") if own else {}
        return EndpointPages(page, headers, [source.metric for source in self.sources.values()])

    def _metrics(self, server: Target) -> EngineMetrics:
        metrics, pages = EngineMetrics(self.sources), self._pages()
        if self.sources:
            # Of its code nothing is known: what appears only once it has moved is not missed.
            metrics.find_missing(pages, None, SPECULATION)
        pages.close()
        return metrics

    def _sampler(self, server: Target, metrics: EngineMetrics) -> MetricsSampler:
        local = self.endpoint.completions.local
        return EndpointSampler(self._pages(), metrics, self.run.measurement["sample_hz"], local)

    def _gates(self, health: validity.ClientHealth, requests: pa.Table, samples: pa.Table) -> dict[str, float | None]:
        gates = super()._gates(health, requests, samples)
        return gates if self.sources else {**gates, "missing_samples_rate": None}

    def _measure(
        self, server: Target, point: Point, session: Mapping[str, Any], metrics: EngineMetrics
    ) -> MeasuredPoint:
        self._served.clear()
        requests, samples, record = super()._measure(server, point, session, metrics)
        served = sorted(self._served, key=str)
        return requests, samples, {**record, "served": [{"model": m, "system_fingerprint": f} for m, f in served]}


def _origin(address: Address) -> dict[str, Any]:
    return {**asdict(address), "path": ""}
