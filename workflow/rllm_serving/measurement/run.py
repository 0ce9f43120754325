"""One run: start the server, measure its points one after the other, write requests, samples and run.json.

Completed points are journaled at once, so that a failure costs one point; see `journal`.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..analysis import validity
from ..errors import UserError
from ..load import arrivals, client, stream
from ..load.patterns import LOADS
from ..load.requests import PlannedRequest, build_bodies, plan_requests
from ..serving import effective, hardware
from ..serving.engines import ENGINES, ServerConfig
from ..serving.gpus import GpuLease, acquire_gpus
from ..serving.server import Server
from ..study.design import Load, Point, Run
from . import point_validity, priority, rows, special_tokens, telemetry
from .engine_metrics import SPECULATION, EngineMetrics
from .fingerprint import fingerprint
from .journal import Journal, MeasuredPoint, completed_points, parquet_bytes, write_atomically
from .paths import RunPaths
from .prompt_check import check_prompt
from .warm_up import is_steady, tokens_per_s

CRASH_GRACE_S = 0.5
"""A dying server cuts its streams a moment before its process is gone."""
OPEN_CONNECTIONS = 16
"""Opened before the first request of a load that has no size; more are opened while it runs."""

Exchanges = list[tuple[client.HttpExchange, int | None]]
"""What was sent and received, with the number of the batch."""

log = logging.getLogger(__name__)


class RunError(UserError):
    """A run cannot give valid numbers."""


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
        engine: the engine.
        model: contents of model.json.
        draft: the same of the model that proposes tokens.
        environment: contents of environment.json.
    """

    def __init__(self, run: Run, paths: RunPaths, device: str) -> None:
        self.run, self.paths, self.device = run, paths, device
        self.engine = ENGINES[run.engine]
        self.model: dict[str, Any] = json.loads(paths.model.read_text())
        self.draft: dict[str, Any] | None = None if paths.draft is None else json.loads(paths.draft.read_text())
        self.environment: dict[str, Any] = json.loads(paths.environment.read_text())

    @cached_property
    def server_config(self) -> ServerConfig:
        """What the server is started with."""
        return ServerConfig(
            python=self.paths.python,
            model=Path(self.model["path"]),
            draft=None if self.draft is None else Path(self.draft["path"]),
            served_name=self.run.model,
            device=self.device,
            options=self.run.options,
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
            with acquire_gpus(self.run.gpus(self.device)) as gpus, self._server(gpus) as server:
                session = self._session(server)
                log.info("server ready after %.1f s at %s", server.startup_s, server.url)
                point_validity.check_options(self.run, session)
                kind = hardware.comparable_kind(session["hardware"])
                for name, (_, _, record) in list(completed.items()):
                    if hardware.comparable_kind(record["session"]["hardware"]) != kind:
                        log.warning("point %s was measured on other hardware: it is measured again", name)
                        del completed[name]
                missing = [point for point in self.run.points if point.name not in completed]
                session["prompt_tokens_checked"] = check_prompt(server, self.run.model, self.model, self.run.thinking)
                session["restart"] = len({record["session"]["id"] for _, _, record in completed.values()})
                session["warm_up_tokens_per_s"] = self._warm_up(server, missing)
                unused = SPECULATION if self.run.options.speculative == "none" else ()
                package = self.paths.package(self.engine.module)
                metrics = EngineMetrics.of_server(server.port, self.engine.metrics, package, unused)
                session["missing_metrics"] = metrics.missing
                started = time.monotonic()
                for number, point in enumerate(missing, 1):
                    completed[point.name] = self._measure(server, point, session, metrics)
                    journal.add(point.name, *completed[point.name])
                    log_progress(point.name, number, len(missing), time.monotonic() - started)
        self._assemble([completed[point.name] for point in self.run.points])
        journal.discard()

    def _server(self, gpus: GpuLease) -> Server:
        return Server(
            self.engine,
            self.server_config,
            self.paths.server_log,
            self.run.measurement["startup_timeout_s"],
            niceness=priority.server_niceness(),
            gpus=gpus,
        )

    def _session(self, server: Server) -> dict[str, Any]:
        """Describe a server start for run.json: its command, its hardware, its time."""
        started = datetime.now(UTC).isoformat(timespec="seconds")
        return {
            "id": f"{started}/{server.port}",
            "command": server.command,
            "environment": server.environment,
            "startup_seconds": server.startup_s,
            "server_niceness": server.niceness,
            "client_priority": "normal" if server.niceness else "realtime",
            "server_log": str(server.log),
            "kernels": self.engine.selected_backends(server.log),
            **effective.describe(server),
            "hardware": hardware.describe(server.gpus.uuids),
            "git_commit": hardware.git_commit(Path(__file__).parent),
        }

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

    def _warm_up(self, server: Server, points: list[Point]) -> list[float]:
        """Send rounds of the largest load at the largest budget until their rates agree; returns these (tokens/s)."""
        largest = max(points, key=lambda point: (point.load.size or OPEN_CONNECTIONS, point.budget))
        size = largest.load.size or OPEN_CONNECTIONS
        questions = -(-size // largest.n_samples)
        point = replace(
            largest,
            load=Load(type="batch", size=size),
            num_questions=min(questions, largest.num_questions or questions),
        )
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
        self, server: Server, point: Point, planned: list[PlannedRequest], health: validity.ClientHealth
    ) -> tuple[float, Exchanges]:
        """Send the requests in the pattern of the point's load; returns its start on the client's clock, and them."""
        bodies = build_bodies(self.run, point, planned, self.paths.templates[point.dataset])
        pattern = LOADS[point.load.type]
        if point.load.open_loop:
            pattern = partial(pattern, times=[request.time for request in planned])
        return client.run(
            "127.0.0.1",
            server.port,
            [client.build_http_request("127.0.0.1", server.port, "/v1/chat/completions", body) for body in bodies],
            pattern,
            point.load.size or OPEN_CONNECTIONS,
            self.run.measurement["request_timeout_s"],
            health,
        )

    def _measure(
        self, server: Server, point: Point, session: Mapping[str, Any], metrics: EngineMetrics
    ) -> MeasuredPoint:
        server.flush()
        assert server.pid is not None
        sample_hz = self.run.measurement["sample_hz"]
        gpus = telemetry.GpuSampler(server.gpus.uuids)
        sampler = telemetry.MetricsSampler(server.port, server.pid, metrics, sample_hz, gpus)
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
        gates = validity.compute_gates(health, requests, samples, sample_hz, telemetry.cores())
        self._check_validity(point, requests, gates)
        record = {
            "name": point.name,
            **point.keys,
            "point": asdict(point),
            "session": session,
            "started_at": started_at,
            "duration_s": end - start,
            "telemetry": sampler.counts(),
            "validity": gates,
        }
        return requests, samples, record

    def _check_validity(self, point: Point, requests: pa.Table, gates: Mapping[str, float | None]) -> None:
        """Log when a point exceeds a gate; raise RunError when the config has such points fail the run."""
        reason = validity.invalid(gates, validity.limits(self.run.measurement))
        if reason is None:
            return
        failed = requests.filter(pc.not_equal(requests["status"], "ok"))
        reasons = sorted({f"{row['status']}: {row['error']}" for row in failed.select(["status", "error"]).to_pylist()})
        details = f" ({failed.num_rows} of {requests.num_rows} failed: {'; '.join(reasons[:5])})" if reasons else ""
        message = f"{self.run.folder}, point {point.name} is invalid: {reason}{details}"
        if self.run.measurement["on_invalid"] == "mark" and failed.num_rows < requests.num_rows:
            log.warning("%s; it is kept and marked", message)
            return
        rejected = Journal(self.paths.partial, self.fingerprint).reject(point.name, requests)
        raise RunError(
            f"{message}. See measurement.gates, measurement.max_failed_rate and measurement.on_invalid of the config. "
            f"The requests are in {rejected}, the server's log is {self.paths.server_log}. "
            "Finished points are kept; call snakemake again to go on."
        )

    def _assemble(self, measured: list[MeasuredPoint]) -> None:
        """Write the run's three files; run.json last."""
        sessions = {record["session"]["id"]: record["session"] for _, _, record in measured}
        record = {
            "server": self.run.keys,
            "start": self.run.start,
            "fingerprint": self.fingerprint,
            "config": self.run.to_dict(),
            "device": self.device,
            "model": self.model,
            "draft": self.draft,
            "metrics": {column: source.metric for column, source in self.engine.metrics.items()},
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
