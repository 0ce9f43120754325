"""What a study consists of: loads, points, runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any

from ..schemas import SERVER_KEYS
from ..serving.engines import SAMPLED_SPECULATION, Options

MEASUREMENT = 11
"""Raised when the way of measuring changes, so that points measured in different ways never share a run."""


@dataclass(frozen=True)
class Load:
    """How requests arrive.

    Attributes:
        type: "batch" sends `size` requests at once and waits for all; "closed" keeps `size` in flight; "open" and
            "trace" are open-loop: send times do not depend on the server.
        size: concurrent requests.
        rate: mean request rate (requests/s) of open-loop loads.
        load_factor: their rate as a share of the measured capacity.
        burstiness: shape of the Gamma distribution that gaps of "open" are drawn from; 1 is Poisson, below is bursty.
        trace: name of the trace that gaps of "trace" are taken from.
        replay_output_lengths: answers are made as long as the trace has them, whatever the model would say.
    """

    type: str
    size: int | None = None
    rate: float | None = None
    load_factor: float | None = None
    burstiness: float | None = None
    trace: str | None = None
    replay_output_lengths: bool = False

    @property
    def open_loop(self) -> bool:
        """Whether requests are sent at times that are known beforehand."""
        return self.type in ("open", "trace")

    @property
    def level(self) -> float:
        """Load level: concurrent requests, requests/s or load factor, depending on type."""
        return next(float(value) for value in (self.size, self.rate, self.load_factor) if value is not None)

    @property
    def name(self) -> str:
        """File-system name, unique within a run."""
        if not self.open_loop:
            return f"{self.type}-{self.size}"
        pace = f"{self.level:g}{'rps' if self.load_factor is None else 'x'}"
        what = f"gamma{self.burstiness:g}" if self.trace is None else self.trace
        return f"{self.type}-{pace}-{what}{'-lengths' * self.replay_output_lengths}"

    def requests_per_s(self, capacity: float) -> float:
        """Return the request rate of the load factor at a measured capacity (both requests/s)."""
        assert self.load_factor is not None
        return self.load_factor * capacity


@dataclass(frozen=True)
class Point:
    """The unit of measurement: the questions of one dataset under one load, budget and repeat.

    Attributes:
        dataset: name of the dataset.
        load: how requests arrive.
        budget: `max_tokens` of each request.
        repeat: number of the repeat, from 0, through all starts of the server.
        num_questions: the first so many questions; None: all.
        n_samples: how often each question is asked in a row (as for a majority vote), with a seed for each sample.
    """

    dataset: str
    load: Load
    budget: int
    repeat: int
    num_questions: int | None
    n_samples: int = 1

    @property
    def name(self) -> str:
        """File-system name of the point, unique within a run."""
        return f"{self.dataset}__{self.load.name}__{self.budget}__{self.repeat}"

    @property
    def keys(self) -> dict[str, Any]:
        """The point's key columns."""
        return {
            "dataset": self.dataset,
            "load": self.load.name,
            "load_level": self.load.level,
            "budget": self.budget,
            "repeat": self.repeat,
        }


def expand_sweep(sweep: Mapping[str, Any], start: int) -> tuple[Point, ...]:
    """Return the points of one start of an experiment's servers: all combinations of a sweep.

    Args:
        sweep: plain JSON, short enough for a job's parameters: `datasets` (names), `n_samples` (dataset -> how often
            a question is asked in a row), `loads` (arguments of Load), `budgets` (tokens), `repeats` (their number),
            `num_questions` (of each dataset; None: all).
        start: number of the start, from 1. Repeats are numbered through all starts, so that each start has requests,
            seeds and arrivals of its own.
    """
    loads = [Load(**load) for load in sweep["loads"]]
    return tuple(
        Point(dataset, load, budget, repeat, sweep["num_questions"], sweep["n_samples"][dataset])
        # Repeats are the outermost loop: what drifts while a run lasts then falls on every condition alike.
        for repeat in range((start - 1) * sweep["repeats"], start * sweep["repeats"])
        for dataset in sweep["datasets"]
        for load in loads
        for budget in sweep["budgets"]
    )


@dataclass(frozen=True)
class Run:
    """One experiment on one start of one server: one job, all points of that start.

    Attributes:
        experiment: name of the experiment; likewise `engine`, `model`, `quantization` and `setup`: the server's keys.
        start: which start of the server it is, from 1.
        role: "llm" or "rllm".
        reasoning_parser: how the engine separates reasoning from answer; None: it does not.
        trust_remote_code: whether code of the checkpoint may run.
        options: serving options.
        sampling: temperature and top_p of every request.
        measurement: the config's section.
        seed: the study's seed.
        points: what is measured, in this order.
        method: what the name of the quantization stands for (see `METHODS`).
        thinking: passed to the chat template of a model that thinks on request; None: not passed.
        endpoint: arguments of `serving.endpoints.Endpoint`, of a server that already runs; None: it is started.
        version: of the way of measuring.
    """

    experiment: str
    engine: str
    model: str
    quantization: str
    setup: str
    start: int
    role: str
    reasoning_parser: str | None
    trust_remote_code: bool
    options: Options
    sampling: Mapping[str, float]
    measurement: Mapping[str, Any]
    seed: int
    points: tuple[Point, ...] = field(repr=False)
    method: str = "bf16"
    thinking: bool | None = None
    endpoint: Mapping[str, Any] | None = None
    version: int = MEASUREMENT

    @property
    def keys(self) -> dict[str, str]:
        """The server's key columns."""
        return {name: getattr(self, name) for name in SERVER_KEYS}

    @cached_property
    def server(self) -> str:
        """The folder of its server's runs under results/runs."""
        return "/".join(self.keys.values())

    @cached_property
    def folder(self) -> str:
        """The run's folder under results/runs."""
        return f"{self.server}/{self.start}"

    def gpus(self, device: str) -> int:
        """GPUs of this machine that its server needs."""
        return self.options.tensor_parallel if device == "cuda" and self.endpoint is None else 0

    @property
    def served(self) -> dict[str, Any]:
        """What an engine must support for this run: name of an option -> value."""
        sampled = self.options.speculative if self.sampling["temperature"] > 0 else None
        return {
            **asdict(self.options),
            "reasoning_parser": self.reasoning_parser,
            "quantization": self.method,
            SAMPLED_SPECULATION: sampled,
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values of all but the points, for a job's parameters; `from_dict` reads them back."""
        plain = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name != "points"}
        options = asdict(self.options)
        if self.endpoint is None:
            del plain["endpoint"]
        else:
            # Of a server that already runs nothing else is known.
            options = {name: options[name] for name in ("context_length", "max_running_requests")}
        return canonical_json(plain | {"options": options})

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], points: tuple[Point, ...]) -> Run:
        """Return the run that `to_dict` wrote, with its points."""
        return cls(**{**data, "options": Options(**data["options"]), "points": points})


def canonical_json(value: Any) -> Any:
    """Return `value` as plain JSON with sorted keys, for Snakemake compares parameters by their text.

    Equal numbers have one text: -0.0 becomes 0.0.
    """
    return json.loads(json.dumps(value, sort_keys=True), parse_float=lambda text: float(text) + 0.0)


def request_seed(study_seed: int, dataset: str, question_id: str, repeat: int, sample: int = 0) -> int:
    """Return the sampling seed of a request, the same on every server: servers are compared on equal draws."""
    text = f"{study_seed}/{dataset}/{question_id}/{repeat}" + (f"/{sample}" if sample else "")
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big") >> 1
