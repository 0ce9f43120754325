"""One run: start the server, measure its points one after the other, write what was seen.

Finished points are journaled at once, so that a failure costs one point; see `journal`.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
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
from ..serving import hardware, kernels
from ..serving.engines import ENGINES, ServerConfig
from ..serving.gpus import acquire_gpus
from ..serving.server import Server
from ..study.design import Point, Run
from . import priority, telemetry
from . import rows as records
from .journal import Journal, WriteError, parquet_bytes, write_atomically
from .kept import MeasuredPoint, completed_points
from .paths import RunPaths
from .progress import Progress

WARM_UP_TOKENS = 32
CRASH_GRACE_S = 0.5
# Opened before the first request of a load that has no size; more are opened while it runs.
OPEN_CONNECTIONS = 16

log = logging.getLogger(__name__)


class RunError(UserError):
    """A run that cannot give honest numbers; the message says why and what to do."""


class Measurement:
    """Measures one run; `execute` does it all."""

    def __init__(self, run: Run, places: RunPaths, device: str) -> None:
        self.run, self.places, self.device = run, places, device
        self.engine = ENGINES[run.engine]
        self.model: dict[str, Any] = json.loads(places.model.read_text())
        self.draft: dict[str, Any] | None = None if places.draft is None else json.loads(places.draft.read_text())
        self.environment: dict[str, Any] = json.loads(places.environment.read_text())

    @cached_property
    def launch(self) -> ServerConfig:
        """What the server is started with."""
        return ServerConfig(
            python=self.places.python,
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
    def fingerprint(self) -> str:
        """Digest of all that a point's numbers depend on, besides the point itself."""
        run = {key: value for key, value in self.run.to_dict().items() if key != "measurement"}
        # Patience and strictness decide whether a point counts, not what it is: they may change between attempts.
        run["sample_hz"] = self.run.measurement["sample_hz"]
        files = {**self.places.datasets, **{f"template {k}": v for k, v in self.places.templates.items()}}
        if self.places.arrivals is not None:
            files["arrivals"] = self.places.arrivals
        content = {
            "run": run,
            "device": self.device,
            "packages": self.environment["packages"],
            "model": self.model,
            "draft": self.draft,
            "files": {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()},
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @cached_property
    def think_close(self) -> int | None:
        """Token id of `</think>` in the model's tokenizer; None when it is no single token."""
        file = Path(self.model["path"]) / "tokenizer.json"
        added = json.loads(file.read_text()).get("added_tokens", []) if file.is_file() else []
        return next((token["id"] for token in added if token["content"] == "</think>"), None)

    @cached_property
    def questions(self) -> dict[str, list[dict[str, Any]]]:
        """The rows of each dataset."""
        return {name: pq.read_table(path).to_pylist() for name, path in self.places.datasets.items()}

    def execute(self) -> None:
        """Measure what is missing and write requests.parquet, server.parquet and run.json.

        Raises AllotmentError when its GPUs can't be had, ServerError when the server fails, RunError when a point is
        invalid or a file cannot be written.
        """
        try:
            self._execute()
        except WriteError as error:
            raise RunError(
                f"{self.run.folder}: {error}. Make room there, or allow writing. "
                "Finished points are kept; call snakemake again to go on."
            ) from error

    def _execute(self) -> None:
        journal = Journal(self.places.partial, self.fingerprint)
        done = completed_points(self.run, self.places, self.fingerprint, journal)
        missing = [point for point in self.run.points if point.name not in done]
        log.info("%s: %d points, %d to measure", self.run.folder, len(self.run.points), len(missing))
        if missing:
            patience_s, niceness = self.run.measurement["startup_timeout_s"], priority.server_niceness()
            with (
                acquire_gpus(self.run.gpus(self.device)) as gpus,
                Server(
                    self.engine, self.launch, self.places.server_log, patience_s, niceness=niceness, gpus=gpus
                ) as server,
            ):
                session = self._session(server)
                log.info("server ready after %.1f s at %s", server.startup_s, server.url)
                kind = hardware.comparable_kind(session["hardware"])
                done = {
                    n: kept
                    for n, kept in done.items()
                    if hardware.comparable_kind(kept[2]["session"]["hardware"]) == kind
                }
                if len(done) + len(missing) < len(self.run.points):
                    log.warning("points that were measured on other hardware are measured again on this")
                    missing = [point for point in self.run.points if point.name not in done]
                self._warm_up(server, missing)
                progress = Progress(len(missing))
                for point in missing:
                    done[point.name] = self._measure(server, point, session)
                    journal.add(point.name, *done[point.name])
                    progress.step(point.name)
        self._assemble([done[point.name] for point in self.run.points])
        journal.discard()

    def _session(self, server: Server) -> dict[str, Any]:
        """One server start, as recorded: what ran, on what, since when."""
        started = datetime.now(UTC).isoformat(timespec="seconds")
        return {
            "id": f"{started}/{server.port}",
            "command": server.command,
            "environment": server.environment,
            "startup_seconds": server.startup_s,
            "server_niceness": server.niceness,
            "client_priority": "normal" if server.niceness else "realtime",
            "server_log": str(server.log),
            "kernels": kernels.selected_backends(self.engine, server.log),
            "hardware": hardware.describe(server.gpus.uuids),
            "git_commit": hardware.git_commit(Path(__file__).parent),
        }

    def requests_for(self, point: Point) -> list[PlannedRequest]:
        """The requests of a point; of a load with a clock of its own, as the experiment's arrivals have them."""
        questions = self.questions[point.dataset]
        if point.questions is not None and point.questions > len(questions):
            key = f"experiments.{self.run.experiment}.questions"
            raise RunError(f"{key}: {point.questions} asked, datasets.{point.dataset} has {len(questions)}")
        if not point.load.scheduled:
            return plan_requests(self.run, point, questions)
        assert self.places.arrivals is not None
        return plan_requests(self.run, point, questions, arrivals.arrivals_for(self.places.arrivals, point))

    def _warm_up(self, server: Server, points: list[Point]) -> None:
        """Send the widest load once with a small budget, unrecorded: no point pays for a first time."""
        widest = max(points, key=lambda point: point.load.size or OPEN_CONNECTIONS)
        size = widest.load.size or OPEN_CONNECTIONS
        questions = -(-size // widest.samples)
        budget = min(WARM_UP_TOKENS, widest.budget)
        load = replace(widest.load, kind="batch", size=size)
        brief = replace(widest, load=load, budget=budget, questions=min(questions, widest.questions or questions))
        asks = plan_requests(self.run, brief, self.questions[brief.dataset])
        self._send(server, brief, asks, validity.ClientHealth())

    def _send(
        self, server: Server, point: Point, asks: list[PlannedRequest], health: validity.ClientHealth
    ) -> tuple[float, list[tuple[client.HttpExchange, int | None]]]:
        wanted = build_bodies(self.run, point, asks, self.places.templates[point.dataset])
        drive = LOADS[point.load.kind]
        if point.load.scheduled:
            drive = partial(drive, times=[ask.time for ask in asks])
        return client.run(
            "127.0.0.1",
            server.port,
            [client.build_http_request("127.0.0.1", server.port, "/v1/chat/completions", body) for body in wanted],
            drive,
            point.load.size or OPEN_CONNECTIONS,
            self.run.measurement["request_timeout_s"],
            health,
        )

    def _measure(self, server: Server, point: Point, session: Mapping[str, Any]) -> MeasuredPoint:
        server.flush()
        assert server.pid is not None
        sampler = telemetry.MetricsSampler(
            server.port,
            server.pid,
            self.engine.metrics,
            self.run.measurement["sample_hz"],
            telemetry.GpuSampler(server.gpus.uuids),
        )
        started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        asks, health = self.requests_for(point), validity.ClientHealth()
        with priority.realtime_priority(), sampler:
            start, exchanges = self._send(server, point, asks, health)
        # A dying server cuts its streams a moment before it is gone: that the server died is the better reason.
        cut = any(exchange.failure in ("connection", "truncated") for exchange, _ in exchanges)
        server.check(CRASH_GRACE_S if cut else 0.0)
        requests = self._requests(point, start, asks, exchanges)
        keys = {**self.run.keys, **point.keys}
        end = max(exchange.closed or start for exchange, _ in exchanges)
        samples = records.to_table([{**keys, **row} for row in sampler.rows(start, end)], records.SERVER)
        numbers = validity.compute_gates(health, requests, samples, self.run.measurement["sample_hz"])
        self._check_validity(point, requests, numbers)
        record = {
            "name": point.name,
            **point.keys,
            "point": asdict(point),
            "session": session,
            "started_at": started_at,
            "duration_s": end - start,
            "telemetry": {"samples": samples.num_rows, "late": sampler.late, "cpu_s": sampler.cost_s},
            "validity": numbers,
        }
        return requests, samples, record

    def _requests(
        self,
        point: Point,
        start: float,
        asks: list[PlannedRequest],
        exchanges: list[tuple[client.HttpExchange, int | None]],
    ) -> pa.Table:
        keys = {**self.run.keys, **point.keys}
        rows = []
        for index, (ask, (exchange, batch)) in enumerate(zip(asks, exchanges, strict=True)):
            outcome = stream.decode(exchange, self.think_close, self.engine.counts_think_close)
            if self.run.reasoning_parser is None and outcome.output_tokens is not None:
                # Without a reasoning parser nothing is hidden: every token belongs to the answer.
                outcome.reasoning_tokens, outcome.answer_tokens = 0, outcome.output_tokens
                outcome.reasoning_source = "no reasoning parser"
            rows.append(records.request_row(keys, ask, index, batch, start, exchange, outcome))
        return records.to_table(rows, records.REQUESTS)

    def _check_validity(self, point: Point, requests: pa.Table, numbers: Mapping[str, float | None]) -> None:
        """Say when a point is beyond a gate; raise RunError when the config has such points fail the run."""
        reason = validity.invalid(numbers, validity.limits(self.run.measurement))
        if reason is None:
            return
        failed = requests.filter(pc.not_equal(requests["status"], "ok"))
        reasons = sorted({f"{row['status']}: {row['error']}" for row in failed.select(["status", "error"]).to_pylist()})
        told = f" ({failed.num_rows} of {requests.num_rows} failed: {'; '.join(reasons[:5])})" if reasons else ""
        message = f"{self.run.folder}, point {point.name} is invalid: {reason}{told}"
        if self.run.measurement["on_invalid"] == "mark" and failed.num_rows < requests.num_rows:
            log.warning("%s; it is kept and marked", message)
            return
        kept = Journal(self.places.partial, self.fingerprint).reject(point.name, requests)
        raise RunError(
            f"{message}. See measurement.gates, measurement.max_failed_rate and measurement.on_invalid of the config. "
            f"The requests are in {kept}, the server's log is {self.places.server_log}. "
            "Finished points are kept; call snakemake again to go on."
        )

    def _assemble(self, measured: list[MeasuredPoint]) -> None:
        """Write the run's three files; run.json last."""
        sessions = {record["session"]["id"]: record["session"] for _, _, record in measured}
        record = {
            "server": self.run.keys,
            "fingerprint": self.fingerprint,
            "config": self.run.to_dict(),
            "device": self.device,
            "model": self.model,
            "draft": self.draft,
            "metrics": {column: source.metric for column, source in self.engine.metrics.items()},
            "environment": self.environment,
            "sessions": list(sessions.values()),
            "points": [
                {
                    **record,
                    "session": record["session"]["id"],
                    # Judged by the gates of now, which may have changed since the point was measured.
                    "invalid": validity.invalid(record["validity"], validity.limits(self.run.measurement)),
                }
                for _, _, record in measured
            ],
        }
        for path, tables in (
            (self.places.requests, [requests for requests, _, _ in measured]),
            (self.places.server, [samples for _, samples, _ in measured]),
        ):
            write_atomically(path, parquet_bytes(pa.concat_tables(tables)))
        write_atomically(self.places.record, json.dumps(record, indent=1).encode())
