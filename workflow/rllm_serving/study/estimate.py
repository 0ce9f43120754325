"""What a study will take, told before anything starts: servers, GPUs, hours, bytes. Estimates, from round numbers.

A step of decoding reads the weights once and computes once a request, so a request gets a token every

    max(weights / bandwidth, 2 x parameters x requests at once / operations) / GPUs + overhead

seconds. Prompts, KV reads and speculation are left out. How long a model writes nobody knows beforehand: hours are told
for usual lengths and for answers that all use their whole budget, which is the most that they can be.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .design import Point, Run
from .quantization_methods import METHODS
from .study import Study

BANDWIDTH, OPERATIONS, OVERHEAD_S = 2e12, 4e14, 3e-3
"""Of a GPU of the H100's kind, as reached when serving: bytes/s, operations/s, s a step."""
CPU_STEP_S, CPU_REQUEST_S = 1.4e-3, 0.16e-3
"""A micro model on two cores: s a step, and s more for each request at once (both engines, measured)."""
MICRO = 3.3e6
"""Parameters of a micro model."""
USUAL = {"llm": 400, "rllm": 4000}
"""Tokens of an answer, thinking included; the longest of a batch writes LONGEST times as many."""
MICRO_USUAL = {"llm": 40, "rllm": 150}
LONGEST = 3
START_S = {"cuda": 180.0, "cpu": 35.0}
"""A server's start, without reading its weights, which come at READING bytes/s."""
READING = 1e9
PROCESSES_MB = 8000
"""Of the host's memory for an engine's processes, a GPU."""
UNKNOWN, UNKNOWN_H = 7e10, 24.0
"""Parameters, and hours of a run, where the config does not tell."""
AT_ONCE = 32
"""Requests at once of a load with a clock of its own, at most those that the server takes."""
QUESTIONS = {"gsm8k": 1319, "math500": 500, "aime2024": 30, "gpqa": 198, "supergpqa": 26529, "humaneval": 164}
"""Questions of a whole set, where the config asks all: the split that its format is read from (GPQA's diamond)."""
ENVIRONMENT = {"cuda": 10e9, "cpu": 3e9}
"""Bytes of an engine's environment."""


@dataclass(frozen=True)
class Estimate:
    """Hours of one server: with answers of usual length, and at most."""

    usual_h: float
    most_h: float


class Plan:
    """Estimates for a study. What cannot be known (a hub model's size, unless `billions` tells) is None."""

    def __init__(self, study: Study) -> None:
        self.study = study

    def parameters(self, model: str) -> float | None:
        """How many a model has, as its config entry tells."""
        spec = self.study.models[model]
        if spec["source"] == "micro":
            return MICRO
        return spec["billions"] * 1e9 if "billions" in spec else None

    def run(self, run: Run) -> Estimate | None:
        """Hours that a run occupies its GPUs (or the machine), its server's start included."""
        parameters, ratio = self.parameters(run.model), METHODS[run.method].ratio or 1.0
        if parameters is None:
            return None
        seconds = [0.0, 0.0]
        # Repeats take equally long: the first stands for all.
        for point in (point for point in run.points if point.repeat == 0):
            asked = self._requests(point)
            if asked is None:
                return None
            for k, length in enumerate(self._lengths(run, point)):
                seconds[k] += self._point(run, point, asked, parameters, ratio, length)
        start = START_S[self.study.device] + 2 * parameters * ratio / READING
        repeats = self.study.sweeps[run.experiment]["repeats"]
        return Estimate(*((start + repeats * s) / 3600 for s in seconds))

    def minutes(self, run: Run) -> int:
        """Minutes that a cluster should grant a run: the most that it can take, half as much again, half an hour."""
        estimate = self.run(run)
        return math.ceil(60 * (UNKNOWN_H if estimate is None else 1.5 * estimate.most_h + 0.5))

    def memory_mb(self, run: Run) -> int:
        """Megabytes of the host's memory for a run: its engine's processes, and the weights, which pass through it."""
        return round(PROCESSES_MB * run.options.tensor_parallel + 2e-6 * (self.parameters(run.model) or UNKNOWN))

    def quantizing_mb(self, model: str) -> int:
        """Megabytes of the host's memory for quantizing a model: its weights in both formats."""
        return round(PROCESSES_MB + 4e-6 * (self.parameters(model) or UNKNOWN))

    def _requests(self, point: Point) -> int | None:
        spec = self.study.datasets[point.dataset]
        asked = point.questions or spec.get("questions") or QUESTIONS.get(spec.get("format", ""))
        return None if asked is None else asked * point.samples

    def _lengths(self, run: Run, point: Point) -> tuple[tuple[float, float], tuple[float, float]]:
        """(mean, longest) tokens of an answer: usual, and at most."""
        micro = self.study.models[run.model]["source"] == "micro"
        usual = (MICRO_USUAL if micro else USUAL)[run.role]
        budget = float(point.budget)
        return (min(budget, usual), min(budget, LONGEST * usual)), (budget, budget)

    def _point(
        self, run: Run, point: Point, requests: int, parameters: float, ratio: float, length: tuple[float, float]
    ) -> float:
        """Seconds of one point."""
        mean, longest = length
        size = point.load.size or min(AT_ONCE, run.options.max_running_requests)
        step = self._step(run, size, parameters, ratio)
        if point.load.kind == "batch":
            return math.ceil(requests / size) * longest * step
        if point.load.rate is not None:
            return requests / point.load.rate + longest * step
        # Of loads by share the slowest of the servers sets the pace: at least this long.
        return requests / size * mean * step / (point.load.share or 1.0) + longest * step

    def _step(self, run: Run, size: int, parameters: float, ratio: float) -> float:
        if self.study.device == "cpu":
            return (CPU_STEP_S + CPU_REQUEST_S * size) * max(1.0, parameters / MICRO)
        reading, computing = 2 * parameters * ratio / BANDWIDTH, 2 * parameters * size / OPERATIONS
        return max(reading, computing) / run.options.tensor_parallel + OVERHEAD_S

    def experiments(self) -> list[dict[str, Any]]:
        """A row an experiment: servers, points, requests, gpus (of its largest server), hours and gpu_hours, each for
        usual answers and at most; None where a model's or a dataset's size is not known."""
        rows = []
        for name, runs in self.study.experiments.items():
            gpus = [run.gpus(self.study.device) for run in runs]
            requests = [self._requests(point) for run in runs for point in run.points]
            found = [self.run(run) for run in runs]
            row: dict[str, Any] = {"experiment": name, "servers": len(runs)}
            row["points"] = len(requests)
            row["requests"] = _sum(requests)
            row["gpus"] = max(gpus, default=0)
            for kind in ("usual_h", "most_h"):
                hours = [None if estimate is None else getattr(estimate, kind) for estimate in found]
                row[kind] = _sum(hours)
                row[f"gpu_{kind}"] = _sum(
                    None if hour is None else hour * count for hour, count in zip(hours, gpus, strict=True)
                )
            rows.append(row)
        return rows

    def downloads(self) -> list[dict[str, Any]]:
        """A row a thing to be fetched or made (model, quantized model, environment): what, kind, bytes."""
        runs = self.study.runs.values()
        rows: list[dict[str, Any]] = []
        first: dict[tuple[str, str], str] = {}
        for model in sorted({name for run in runs for name in (run.model, run.options.draft) if name}):
            spec, parameters = self.study.models[model], self.parameters(model)
            kind, size = KINDS[spec["source"]], None if parameters is None else 2 * parameters
            if spec["source"] == "hub":
                other = first.setdefault((spec["id"], spec["revision"]), model)
                kind, size = (kind, size) if other == model else (f"the same as {other}", 0.0)
            rows.append({"what": model, "kind": kind, "bytes": 0.0 if spec["source"] == "path" else size})
        for model, name in sorted({(r.model, r.quantization) for r in runs}):
            ratio, parameters = METHODS[self.study.quantizations[name]["method"]].ratio, self.parameters(model)
            if ratio is not None:
                size = None if parameters is None else 2 * parameters * ratio
                rows.append({"what": f"{model} {name}", "kind": "made", "bytes": size})
        device = self.study.device
        for environment in sorted({f"{run.engine}-{device}" for run in runs}):
            rows.append({"what": environment, "kind": "download", "bytes": ENVIRONMENT[device]})
        return rows


KINDS = {"hub": "download", "path": "on this machine", "micro": "made"}


def _sum(values: Any) -> Any:
    values = list(values)
    return None if None in values else sum(values)


def text(experiments: list[dict[str, Any]], downloads: list[dict[str, Any]]) -> str:
    """Both tables for people: hours with one digit, gigabytes; "?" where something is not known."""

    def shown(value: Any, digits: int = 0) -> str:
        return "?" if value is None else f"{value:,.{digits}f}"

    head = ("experiment", "servers", "points", "requests", "GPUs", "hours", "at most", "GPU-hours", "at most")
    hours = ("usual_h", "most_h", "gpu_usual_h", "gpu_most_h")
    rows = [
        (
            row["experiment"],
            *(shown(row[key]) for key in ("servers", "points", "requests", "gpus")),
            *(shown(row[key], 1) for key in hours),
        )
        for row in experiments
    ]
    sums = {key: _sum(row[key] for row in experiments) for key in ("servers", "points", "requests", *hours)}
    total = [shown(sums[key]) for key in ("servers", "points", "requests")]
    rows.append(("all", *total, "", *(shown(sums[key], 1) for key in hours)))
    things = [(row["what"], row["kind"], shown(_scaled(row["bytes"]), 1)) for row in downloads]
    fetched = _sum(_scaled(row["bytes"]) for row in downloads if row["kind"] == "download")
    disk = _sum(_scaled(row["bytes"]) for row in downloads)
    things += [("all downloads", "", shown(fetched, 1)), ("all on disk", "", shown(disk, 1))]
    return "\n\n".join((_table(head, rows), _table(("what", "how it comes", "GB"), things)))


def _scaled(size: float | None) -> float | None:
    return None if size is None else size / 1e9


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, *rows]
    widths = [max(len(line[k]) for line in lines) for k in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if k == 0 else cell.rjust(w) for k, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
