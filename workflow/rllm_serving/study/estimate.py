"""What a study will take, told before anything starts: servers, GPUs, hours, bytes. Estimates, from round numbers.

A step of decoding reads the weights once and computes once a request, so a request gets a token every

    max(weights / bandwidth, 2 x parameters x concurrent requests / operations) / GPUs + overhead

seconds. Prompts, KV reads and speculation are left out. How long a model writes is not known beforehand: hours are
given for usual lengths and for answers that all use their whole budget, which is the most that they can be.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ..models.checkpoints import ModelError, stored_parameters
from .design import Point, Run
from .quantization_methods import CALIBRATION_SAMPLES, LONGEST_TEXT, METHODS, MICRO_LONGEST_TEXT
from .study import Study

BANDWIDTH, OPERATIONS, OVERHEAD_S = 2e12, 4e14, 3e-3
"""Of a GPU of the H100's kind, as reached when serving: bytes/s, operations/s, s a step."""
CPU_STEP_S, CPU_REQUEST_S = 1.4e-3, 0.16e-3
"""A micro model on two cores: s a step, and s more for each concurrent request (both engines, measured)."""
MICRO = 3.3e6
"""Parameters of a micro model."""
USUAL = {"llm": 400, "rllm": 4000, "draft": 400}
"""Tokens of an answer, thinking included; the longest of a batch writes LONGEST times as many."""
MICRO_USUAL = {"llm": 40, "rllm": 150, "draft": 40}
LONGEST = 3
WARM_UP_ROUNDS = 3
"""Rounds until a server is steady, as a rule."""
START_S = {"cuda": 90.0, "cpu": 35.0}
"""A server's start on one GPU, without reading weights, which come at READING bytes/s. Half as long again as 59 s of a
start whose graphs were compiled before, in the log of github.com/vllm-project/vllm/issues/20264."""
MORE_GPUS_S = 60.0
"""More of it with several GPUs: their processes, their connection, their graphs."""
COMPILING_S = {"cuda": 90.0, "cpu": 0.0}
"""Compiling at the start of the first server with its kernels. Half as long again as 57 s, by which a first start is
longer than that one (github.com/run-ai/runai-model-streamer/issues/67)."""
READING = 1e9
GENERATE_STEP_S = {"cuda": 0.03, "cpu": 0.02}
"""A token of a batch of prompts as transformers generates it, which quantizing asks for its texts and its checks."""
ROUNDING_S = {"cuda": 1.2e-7, "cpu": 8e-6}
"""GPTQ and AWQ, a parameter: a quarter of an hour for 8 billion on a GPU, half a minute for a micro model."""
IMPORTS_S = 15.0
"""Until a job of training or quantizing has loaded its libraries."""
TRAINING_S = {"llm": 300.0, "rllm": 300.0, "draft": 120.0}
"""A micro model on one core with AVX-512 (measured)."""
PROCESSES_MB = 8000
"""Of the host's memory for an engine's processes, a GPU."""
CLIENT_MB = 4000
"""Of the host's memory where the server already runs."""
UNKNOWN, UNKNOWN_H = 7e10, 24.0
"""Parameters, and hours of a run, where the config does not tell."""
AT_ONCE = 32
"""Concurrent requests of an open-loop load, at most those that the server takes; prompts of a batch when quantizing."""
QUESTIONS = {"gsm8k": 1319, "math500": 500, "aime2024": 30, "gpqa": 198, "supergpqa": 26529, "humaneval": 164}
"""Questions of a whole set, where the config asks all: the split that its format is read from (GPQA's diamond)."""
ENVIRONMENT = {"cuda": 10e9, "cpu": 3e9}
"""Bytes of an environment."""
ORIGINS = {"hub": "download", "path": "on this machine", "micro": "made"}
ENDPOINT_STEP_S = 0.02
"""A token of a server that already runs: of it nothing is known."""
HOURS = ("usual_h", "most_h", "gpu_usual_h", "gpu_most_h")


@dataclass(frozen=True)
class RuntimeEstimate:
    """Hours of one job: with answers of usual length, and at most."""

    usual_h: float
    most_h: float


class Plan:
    """Estimates for a study. What cannot be known (a hub model's size without `parameters_b`) is None."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.parameters = cache(self._parameters)
        self._first_with_kernels = cache(self._find_first_with_kernels)

    def _parameters(self, model: str) -> float | None:
        """Parameters of a model, from its config entry or, of a local folder, from its files."""
        spec = self.study.models[model]
        if spec["source"] == "micro":
            return MICRO
        if "parameters_b" in spec:
            return float(spec["parameters_b"] * 1e9)
        if spec["source"] in ("hub", "served"):
            return None
        try:
            return stored_parameters(f"models.{model}", Path(spec["path"]).expanduser())
        except ModelError:
            # Rule fetch_model, which comes first, says what is wrong with the folder.
            return None

    def _find_first_with_kernels(self) -> dict[tuple[object, ...], str]:
        """Kernels of servers -> folder of the run whose server compiles them: optional experiments come last."""
        first: dict[tuple[object, ...], str] = {}
        for name in sorted(self.study.experiments, key=lambda name: name not in self.study.default_experiments):
            for run in self.study.experiments[name]:
                first.setdefault(_kernels(run), run.folder)
        return first

    def run(self, run: Run) -> RuntimeEstimate | None:
        """Hours that a run occupies its GPUs (or the machine), its server's start included."""
        parameters = self.parameters(run.model) if run.endpoint is None else 0.0
        ratio = METHODS[run.method].ratio or 1.0
        if parameters is None:
            return None
        seconds = [0.0, 0.0]
        # Repeats take equally long: the first stands for all.
        for point in (point for point in run.points if point.repeat == run.points[0].repeat):
            requests = self.requests(point)
            if requests is None:
                return None
            for k, length in enumerate(self.lengths(run, point)):
                seconds[k] += self._point_s(run, point, requests, parameters, ratio, length)
        start, rounds = START_S[self.study.device] + 2 * parameters * ratio / READING, WARM_UP_ROUNDS
        start += MORE_GPUS_S if run.gpus(self.study.device) > 1 else 0
        if (compiling := COMPILING_S[self.study.device]) and self._first_with_kernels()[_kernels(run)] == run.folder:
            start += compiling + (start if run.measurement["restart_cold"] else 0)
        if run.endpoint is not None:
            start, rounds = 0.0, run.endpoint["warm_up_rounds"]
        repeats = self.study.sweeps[run.experiment]["repeats"]
        warm_up = self._warm_up_s(run, parameters, ratio)
        return RuntimeEstimate(
            *((start + rounds * w + repeats * s) / 3600 for w, s in zip(warm_up, seconds, strict=True))
        )

    def _warm_up_s(self, run: Run, parameters: float, ratio: float) -> list[float]:
        """Seconds of one round of warming up: a batch of the largest load at the largest budget."""
        largest = max(run.points, key=lambda point: (point.load.size or 0, point.budget))
        size = largest.load.size or min(AT_ONCE, run.options.max_running_requests)
        step = self._step_s(run, size, parameters, ratio)
        return [longest * step for _, longest in self.lengths(run, largest)]

    def minutes(self, run: Run) -> int:
        """Minutes that a cluster should grant a run: the most that it can take, half as much again, half an hour."""
        estimate = self.run(run)
        return math.ceil(60 * (UNKNOWN_H if estimate is None else 1.5 * estimate.most_h + 0.5))

    def memory_mb(self, run: Run) -> int:
        """Megabytes of the host's memory for a run: its engine's processes, and the weights, which pass through it."""
        if run.endpoint is not None:
            return CLIENT_MB
        return round(PROCESSES_MB * run.options.tensor_parallel + 2e-6 * (self.parameters(run.model) or UNKNOWN))

    def quantizing_mb(self, model: str) -> int:
        """Megabytes of the host's memory for quantizing a model: its weights in both formats."""
        return round(PROCESSES_MB + 4e-6 * (self.parameters(model) or UNKNOWN))

    def requests(self, point: Point) -> int | None:
        """Requests of a point; None where the size of its dataset is not known before it is fetched."""
        spec = self.study.datasets[point.dataset]
        questions = point.num_questions or spec.get("num_questions") or QUESTIONS.get(spec.get("format", ""))
        return None if questions is None else questions * point.n_samples

    def lengths(self, run: Run, point: Point) -> tuple[tuple[float, float], tuple[float, float]]:
        """(mean, longest) tokens of an answer: usual, and at most."""
        usual, budget = self._usual_tokens(run.model), float(point.budget)
        return (min(budget, usual), min(budget, LONGEST * usual)), (budget, budget)

    def _usual_tokens(self, model: str) -> int:
        spec = self.study.models[model]
        return (MICRO_USUAL if spec["source"] == "micro" else USUAL)[spec["role"]]

    def _point_s(
        self, run: Run, point: Point, requests: int, parameters: float, ratio: float, length: tuple[float, float]
    ) -> float:
        """Seconds of one point."""
        mean, longest = length
        size = point.load.size or min(AT_ONCE, run.options.max_running_requests)
        step = self._step_s(run, size, parameters, ratio)
        if point.load.type == "batch":
            return math.ceil(requests / size) * longest * step
        if point.load.rate is not None:
            return requests / point.load.rate + longest * step
        # Of loads by share the slowest of the servers sets the pace: at least this long.
        return requests / size * mean * step / (point.load.load_factor or 1.0) + longest * step

    def _step_s(self, run: Run, size: int, parameters: float, ratio: float) -> float:
        if run.endpoint is not None:
            return ENDPOINT_STEP_S
        if self.study.device == "cpu":
            return (CPU_STEP_S + CPU_REQUEST_S * size) * max(1.0, parameters / MICRO)
        reading, computing = 2 * parameters * ratio / BANDWIDTH, 2 * parameters * size / OPERATIONS
        return max(reading, computing) / run.options.tensor_parallel + OVERHEAD_S

    def training(self, model: str) -> RuntimeEstimate:
        """Hours of training a micro model."""
        spec = self.study.models[model]
        hours = (IMPORTS_S + TRAINING_S[spec["role"]] * spec.get("training_scale", 1.0)) / 3600
        return RuntimeEstimate(hours, hours)

    def quantizing(self, model: str, quantization: str) -> RuntimeEstimate | None:
        """Hours of quantizing a model, and of asking it and its original the questions that check it."""
        spec, device, parameters = self.study.quantizations[quantization], self.study.device, self.parameters(model)
        method = METHODS[spec["method"]]
        if parameters is None or method.ratio is None:
            return None
        made = model not in spec.get("checkpoints", {})
        # The original is read, the quantized checkpoint written unless it is ready-made, then read as well.
        seconds = IMPORTS_S + 2 * parameters * (1 + method.ratio * (1 + made)) / READING
        batches = 2
        if made and method.calibrated:
            seconds += ROUNDING_S[device] * parameters
            if spec.get("calibration", "reasoning") == "reasoning":
                batches += math.ceil(spec.get("n_samples", CALIBRATION_SAMPLES) / AT_ONCE)
        most = MICRO_LONGEST_TEXT if self.study.models[model]["source"] == "micro" else LONGEST_TEXT
        usual = min(most, LONGEST * self._usual_tokens(model))
        step = GENERATE_STEP_S[device]
        return RuntimeEstimate(*((seconds + batches * tokens * step) / 3600 for tokens in (usual, most)))

    def work(self) -> list[dict[str, Any]]:
        """Everything that is done: a row an experiment, then training and quantizing the models that these serve.

        Returns:
            rows of `work` (name), `optional` (whether `all` leaves it out), `jobs` (servers, or models), `points`,
            `requests`, `gpus` (of the largest job) and HOURS; None where a model's or a dataset's size is not known.
        """
        study, usual = self.study, self.study.default_experiments
        needed_models, needed_pairs = set(study.checkpoints(usual)), set(study.quantized(usual))
        rows = []
        for name, runs in study.experiments.items():
            requests = [self.requests(point) for run in runs for point in run.points]
            row = {"work": name, "optional": name not in usual, "points": len(requests), "requests": total(requests)}
            rows.append(row | _jobs([(self.run(run), run.gpus(study.device)) for run in runs]))
        bare = {"points": 0, "requests": 0}
        for optional in (False, True):
            models = [name for name in study.checkpoints(study.experiments) if (name not in needed_models) == optional]
            training = [(self.training(name), 0) for name in models if study.models[name]["source"] == "micro"]
            pairs = [pair for pair in study.quantized(study.experiments) if (pair not in needed_pairs) == optional]
            gpus = [study.gpus(model) if study.device == "cuda" else 0 for model, _ in pairs]
            quantizing = [(self.quantizing(*pair), count) for pair, count in zip(pairs, gpus, strict=True)]
            for name, jobs in (("training models", training), ("quantizing models", quantizing)):
                if jobs:
                    rows.append({"work": name, "optional": optional, **bare, **_jobs(jobs)})
        return rows

    def downloads(self, experiments: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Everything that is fetched or made: models, quantized models, environments.

        Args:
            experiments: those that are asked for; by default all but the optional ones.

        Returns:
            rows of `what`, `kind` (where it comes from), `optional` (only other experiments need it), `bytes`.
        """
        study = self.study
        usual = study.default_experiments if experiments is None else experiments
        needed = {*study.checkpoints(usual), *study.quantized(usual), *study.environments(usual)}
        rows: list[dict[str, Any]] = []
        first: dict[tuple[str, str], str] = {}
        for model in study.checkpoints(study.experiments):
            spec, parameters = study.models[model], self.parameters(model)
            kind, size = ORIGINS[spec["source"]], None if parameters is None else 2 * parameters
            if spec["source"] == "hub":
                earlier = first.setdefault((spec["id"], spec["revision"]), model)
                kind, size = (kind, size) if earlier == model else (f"the same as {earlier}", 0.0)
            size = 0.0 if spec["source"] == "path" else size
            rows.append({"what": model, "kind": kind, "optional": model not in needed, "bytes": size})
        for model, name in study.quantized(study.experiments):
            ready = study.quantizations[name].get("checkpoints", {}).get(model)
            kind = "made" if ready is None else ORIGINS["path" if "path" in ready else "hub"]
            ratio, parameters = METHODS[study.quantizations[name]["method"]].ratio, self.parameters(model)
            size = None if parameters is None or ratio is None else 2 * parameters * ratio
            size = 0.0 if kind == ORIGINS["path"] else size
            optional = (model, name) not in needed
            rows.append({"what": f"{model} {name}", "kind": kind, "optional": optional, "bytes": size})
        for name in study.environments(study.experiments):
            size = ENVIRONMENT[study.device]
            rows.append({"what": name, "kind": "download", "optional": name not in needed, "bytes": size})
        return rows


def _kernels(run: Run) -> tuple[object, ...]:
    """What decides which kernels a server compiles, by and large."""
    options = run.options
    shapes = options.tensor_parallel, options.kv_cache_dtype, options.speculative
    return run.engine, run.model, run.quantization, *shapes


def _jobs(jobs: Sequence[tuple[RuntimeEstimate | None, int]]) -> dict[str, Any]:
    """Number, largest GPU count and hours of jobs, each an estimate and its GPUs."""
    row: dict[str, Any] = {"jobs": len(jobs), "gpus": max((gpus for _, gpus in jobs), default=0)}
    for kind in ("usual_h", "most_h"):
        hours = [None if estimate is None else getattr(estimate, kind) for estimate, _ in jobs]
        gpu_hours = [None if h is None else h * gpus for h, (_, gpus) in zip(hours, jobs, strict=True)]
        row |= {kind: total(hours), f"gpu_{kind}": total(gpu_hours)}
    return row


def total(values: Sequence[float | None]) -> float | None:
    """The sum of values; None as soon as one of them is not known."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
