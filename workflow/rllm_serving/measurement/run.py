"""One run: start the server, measure its points one after the other, write requests, samples and run.json.

Completed points are journaled at once, so that a failure costs one point; see `journal`.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..analysis import validity
from ..load import arrivals, client, stream
from ..load.patterns import LOADS
from ..load.requests import PlannedRequest, build_bodies, build_http_request, plan_requests
from ..serving.engines import ENGINES, MetricSource, ServerConfig
from ..serving.gpus import GpuLease, acquire_gpus
from ..serving.memory import KvPool
from ..serving.server import Server
from ..serving.target import Target
from ..serving.warm_start import compiled_since, warm_server
from ..study.design import Point, Run
from . import kv_pool, point_validity, priority, rows, special_tokens, telemetry
from .engine_metrics import EngineMetrics
from .fingerprint import fingerprint
from .invalid_points import RunError, check_validity
from .journal import Journal, MeasuredPoint, completed_points, parquet_bytes, write_atomically
from .paths import RunPaths
from .prompt_check import check_prompt
from .session import describe_start
from .warm_up import OPEN_CONNECTIONS, is_steady, tokens_per_s, warm_up_point

CRASH_GRACE_S = 0.5
"""A dying server cuts its streams a moment before its process is gone."""

Exchanges = list[tuple[client.HttpExchange, int | None]]
"""What was sent and received, with the number of the batch."""

log = logging.getLogger(__name__)


def log_progress(name: str, completed: int, total: int, elapsed_s: float) -> None:
    """Log that a point is done, and the time that the other points will take at the pace so far."""
    left_s = elapsed_s / completed * (total - completed)
    log.info("point %d/%d %s done, %.0f s left", completed, total, name, left_s)


class Measurement:
    """Measures one run; `execute` does it all.

    Points that an interrupted run left in the journal are of another start of the server: `restart` tells them apart.

    Attributes:
        run: what to measure.
        paths: the files that it reads and writes.
        device: "cpu" or "cuda".
        sources: columns of samples -> the server's metrics.
        model: contents of model.json.
        draft: the same of the model that proposes tokens.
        environment: contents of environment.json.
    """

    def __init__(self, run: Run, paths: RunPaths, device: str) -> None:
        self.run, self.paths, self.device = run, paths, device
        self.sources: Mapping[str, MetricSource] = {}
        self.model: dict[str, Any] = {}
        self.draft: dict[str, Any] | None = None
        self.environment: dict[str, Any] = {}
        self._prepare()

    def _prepare(self) -> None:
        """Read what the run's inputs say."""
        paths = self.paths
        assert paths.model is not None and paths.environment is not None
        self.engine = ENGINES[self.run.engine]
        self.sources = self.engine.metrics
        self.model = json.loads(paths.model.read_text())
        self.draft = None if paths.draft is None else json.loads(paths.draft.read_text())
        self.environment = json.loads(paths.environment.read_text())

    def server_config(self, pool: KvPool | None) -> ServerConfig:
        """What the server is started with, on GPUs with a KV pool of the size that every engine has."""
        assert self.paths.python is not None
        options = self.run.options if pool is None else replace(self.run.options, kv_cache_tokens=pool.tokens)
        return ServerConfig(
            python=self.paths.python,
            model=Path(self.model["path"]),
            draft=None if self.draft is None else Path(self.draft["path"]),
            served_name=self.run.model,
            device=self.device,
            options=options,
            reasoning_parser=self.run.reasoning_parser,
            trust_remote_code=self.run.trust_remote_code,
            seed=self.run.seed,
            quantization=self.run.method,
        )

    @cached_property
    def fingerprint(self) -> dict[str, str]:
        """Digests of all that a point's numbers depend on, besides the point itself."""
        return fingerprint(self.run, self.paths, self.device, self.environment, self.model, self.draft)

    @cached_property
    def decode(self) -> Callable[[client.HttpExchange], stream.RequestResult]:
        """What reads an answer: it knows the tokens of the model and how the engine counts them."""
        model = Path(self.model["path"])
        return partial(
            stream.decode,
            think_close=special_tokens.think_close(model),
            counts_think_close=self.engine.counts_think_close,
            eos=special_tokens.end_of_sequence(model),
            parses_reasoning=self.run.reasoning_parser is not None,
        )

    @cached_property
    def questions(self) -> dict[str, list[dict[str, Any]]]:
        """The rows of each dataset."""
        return {name: pq.read_table(path).to_pylist() for name, path in self.paths.datasets.items()}

    def execute(self) -> None:
        """Measure what is missing and write requests.parquet, server.parquet and run.json.

        Raises:
            GpuError: when its GPUs can't be had.
            GpuMemoryError, KernelError: when they cannot hold or compute the server's weights.
            OptionsError: when the server runs otherwise than asked.
            ServerError: when the server fails.
            RunError: when a point is invalid.
            WriteError: when a file cannot be written.
        """
        journal = Journal(self.paths.partial, self.fingerprint)
        completed = completed_points(self.run, self.paths, self.fingerprint, journal)
        missing = [point for point in self.run.points if point.name not in completed]
        log.info("%s: %d points, %d to measure", self.run.folder, len(self.run.points), len(missing))
        if missing:
            with ExitStack() as stack:
                gpus = stack.enter_context(acquire_gpus(self.run.gpus(self.device)))
                pool = kv_pool.pool_of(self.run, self.model, self.draft, gpus.uuids)
                again = self.run.measurement["restart_cold"]
                server, start = stack.enter_context(warm_server(partial(self._server, gpus, pool), again))
                session = self._session(server, pool, start)
                log.info("server ready after %.1f s at %s", server.startup_s, server.url)
                point_validity.check_options(self.run, session)
                kind = kv_pool.comparable_kind(session)
                for name, (_, _, record) in list(completed.items()):
                    if kv_pool.comparable_kind(record["session"]) != kind:
                        log.warning("point %s was measured on other hardware: it is measured again", name)
                        del completed[name]
                missing = [point for point in self.run.points if point.name not in completed]
                session["prompt_tokens_checked"] = self._prompt_tokens(server)
                session["restart"] = len({record["session"]["id"] for _, _, record in completed.values()})
                session["warm_up_tokens_per_s"] = self._warm_up(server, missing)
                metrics = self._metrics(server)
                session["missing_metrics"] = metrics.missing
                started = time.monotonic()
                for number, point in enumerate(missing, 1):
                    completed[point.name] = self._measure(server, point, session, metrics)
                    journal.add(point.name, *completed[point.name])
                    log_progress(point.name, number, len(missing), time.monotonic() - started)
        self._assemble([completed[point.name] for point in self.run.points])
        journal.discard()

    def _server(self, gpus: GpuLease, pool: KvPool | None) -> Target:
        return Server(
            self.engine,
            self.server_config(pool),
            self.paths.server_log,
            self.run.measurement["startup_timeout_s"],
            niceness=priority.server_niceness(),
            gpus=gpus,
        )

    def _metrics(self, server: Target) -> EngineMetrics:
        """What reads the server's metrics, of which it knows those that are missing."""
        assert isinstance(server, Server)
        package = self.paths.package(self.engine.module)
        return EngineMetrics.of_server(server.port, self.sources, package, self.run.options.speculative)

    def _session(self, server: Target, pool: KvPool | None, start: Mapping[str, Any]) -> dict[str, Any]:
        """Describe a server start for run.json; start: what `warm_server` tells of it."""
        assert isinstance(server, Server)
        return describe_start(server, pool, start)

    def _prompt_tokens(self, server: Target) -> int | None:
        """Tokens of a prompt that the server counts as its model's own tokenizer does."""
        assert isinstance(server, Server)
        return check_prompt(server, self.run.model, self.model, self.run.thinking)

    def requests_for(self, point: Point) -> list[PlannedRequest]:
        """Plan the requests of a point; those of an open-loop load follow the experiment's arrivals."""
        questions = self.questions[point.dataset]
        if point.num_questions is not None and point.num_questions > len(questions):
            key = f"experiments.{self.run.experiment}.num_questions"
            raise RunError(f"{key}: {point.num_questions} asked, datasets.{point.dataset} has {len(questions)}")
        if not point.load.open_loop:
            return plan_requests(self.run, point, questions)
        assert self.paths.arrivals is not None
        return plan_requests(self.run, point, questions, arrivals.arrivals_for(self.paths.arrivals, point))

    def _warm_up(self, server: Target, points: list[Point]) -> list[float]:
        """Send rounds of the largest load at the largest budget until their rates agree; returns these (tokens/s)."""
        point = warm_up_point(points)
        planned = plan_requests(self.run, point, self.questions[point.dataset])
        rates: list[float] = []
        while len(rates) < self.run.measurement["warm_up_rounds"]:
            server.flush()
            with priority.realtime_priority():
                start, exchanges = self._send(server, point, planned, validity.ClientHealth())
            server.check(CRASH_GRACE_S if any(exchange.failure for exchange, _ in exchanges) else 0.0)
            rates.append(tokens_per_s(start, [self.decode(exchange) for exchange, _ in exchanges]))
            if is_steady(rates, self.run.measurement["warm_up_agreement"]):
                return rates
        log.warning(
            "%s: not steady after %d rounds of warming up (%s tokens/s)",
            self.run.folder,
            len(rates),
            ", ".join(f"{rate:.0f}" for rate in rates),
        )
        return rates

    def _send(
        self, server: Target, point: Point, planned: list[PlannedRequest], health: validity.ClientHealth
    ) -> tuple[float, Exchanges]:
        """Send the requests in the pattern of the point's load; returns its start on the client's clock, and them."""
        assert isinstance(server, Server)
        bodies = build_bodies(self.run, point, planned, self.paths.templates[point.dataset])
        pattern = LOADS[point.load.type]
        if point.load.open_loop:
            pattern = partial(pattern, times=[request.time for request in planned])
        return client.run(
            "127.0.0.1",
            server.port,
            [build_http_request("127.0.0.1", server.port, "/v1/chat/completions", body) for body in bodies],
            pattern,
            point.load.size or OPEN_CONNECTIONS,
            self.run.measurement["request_timeout_s"],
            health,
        )

    def _sampler(self, server: Target, metrics: EngineMetrics) -> telemetry.MetricsSampler:
        assert isinstance(server, Server) and server.pid is not None
        gpus = telemetry.GpuSampler(server.gpus.uuids)
        return telemetry.MetricsSampler(server.port, server.pid, metrics, self.run.measurement["sample_hz"], gpus)

    def _gates(self, health: validity.ClientHealth, requests: pa.Table, samples: pa.Table) -> dict[str, float | None]:
        """The numbers that say whether a point is valid."""
        sample_hz = self.run.measurement["sample_hz"]
        return validity.compute_gates(health, requests, samples, sample_hz, telemetry.cores())

    def _measure(
        self, server: Target, point: Point, session: Mapping[str, Any], metrics: EngineMetrics
    ) -> MeasuredPoint:
        server.flush()
        sampler = self._sampler(server, metrics)
        kernels = server.kernel_files()
        started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        planned, health = self.requests_for(point), validity.ClientHealth()
        with priority.realtime_priority(), sampler:
            start, exchanges = self._send(server, point, planned, health)
        # That the server died is a better reason than that its streams were cut.
        cut = any(exchange.failure in ("connection", "truncated") for exchange, _ in exchanges)
        server.check(CRASH_GRACE_S if cut else 0.0)
        keys = {**self.run.keys, "start": self.run.start, "restart": session["restart"], **point.keys}
        requests = rows.requests_table(keys, start, planned, exchanges, self.decode)
        end = max(exchange.closed or start for exchange, _ in exchanges)
        samples = rows.to_table([{**keys, **row} for row in sampler.rows(start, end)], rows.SERVER)
        gates = self._gates(health, requests, samples)
        journal = Journal(self.paths.partial, self.fingerprint)
        check_validity(self.run, self.paths, journal, point, requests, gates)
        record = {
            "name": point.name,
            **point.keys,
            "point": asdict(point),
            "session": session,
            "started_at": started_at,
            "duration_s": end - start,
            "compiled": compiled_since(server, kernels, f"{self.run.folder}, {point.name}"),
            "telemetry": sampler.counts(),
            "validity": gates,
        }
        return requests, samples, record

    def _assemble(self, measured: list[MeasuredPoint]) -> None:
        """Write the run's three files; run.json last."""
        sessions = {record["session"]["id"]: record["session"] for _, _, record in measured}
        record = {
            "server": self.run.keys,
            "start": self.run.start,
            "fingerprint": self.fingerprint,
            "config": self.run.to_dict(),
            # Of a server that already runs it is not known.
            "device": self.device if self.run.endpoint is None else None,
            "model": self.model,
            "draft": self.draft,
            "metrics": {column: source.metric for column, source in self.sources.items()},
            "missing_metrics": {k: v for session in sessions.values() for k, v in session["missing_metrics"].items()},
            "environment": self.environment,
            "sessions": list(sessions.values()),
            "points": [
                {
                    **record,
                    "session": record["session"]["id"],
                    "invalid": point_validity.invalid(record, self.run.measurement),
                }
                for _, _, record in measured
            ],
        }
        write_atomically(self.paths.requests, parquet_bytes(pa.concat_tables([table for table, _, _ in measured])))
        write_atomically(self.paths.server, parquet_bytes(pa.concat_tables([table for _, table, _ in measured])))
        write_atomically(self.paths.record, json.dumps(record, indent=1).encode())
