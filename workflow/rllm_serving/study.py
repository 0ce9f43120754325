"""The study: what a config means. Servers, points and runs in the project's vocabulary, as frozen records."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .config import ConfigError, choose, walk_paths
from .engines import ENGINES, Options
from .micro import shape

MEASUREMENT = 2
"""Raised when the way of measuring changes, so that points measured in different ways never share a run."""

SERVER_KEYS = ("experiment", "engine", "model", "quantization", "setup")
POINT_KEYS = ("dataset", "load", "budget", "repeat")


@dataclass(frozen=True)
class Load:
    """How requests arrive: `batch` sends `size` at once and waits for all, `closed` keeps `size` in flight."""

    kind: str
    size: int

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.size}"


@dataclass(frozen=True)
class Point:
    """The unit of measurement: the questions of one dataset, each once, under one load, budget and repeat."""

    dataset: str
    load: Load
    budget: int
    repeat: int
    questions: int | None

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
            "load_size": self.load.size,
            "budget": self.budget,
            "repeat": self.repeat,
        }


@dataclass(frozen=True)
class Run:
    """One experiment on one server: one job, one server start, all its points."""

    experiment: str
    engine: str
    model: str
    quantization: str
    setup: str
    role: str
    reasoning_parser: str | None
    trust_remote_code: bool
    options: Options
    sampling: Mapping[str, float]
    measurement: Mapping[str, float]
    seed: int
    points: tuple[Point, ...] = field(repr=False)
    version: int = MEASUREMENT

    @property
    def keys(self) -> dict[str, str]:
        """The server's key columns."""
        return {name: getattr(self, name) for name in SERVER_KEYS}

    @property
    def folder(self) -> str:
        """The run's place under results/runs."""
        return "/".join(self.keys.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, for a job's parameters; `from_dict` reads them back."""
        return ordered(asdict(self))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Run:
        """The run that `to_dict` wrote."""
        points = tuple(Point(**{**p, "load": Load(**p["load"])}) for p in data["points"])
        return cls(**{**data, "options": Options(**data["options"]), "points": points})


def ordered(value: Any) -> Any:
    """`value` as plain JSON with sorted keys: Snakemake compares parameters by their text, a config has any order."""
    return json.loads(json.dumps(value, sort_keys=True))


def request_seed(study_seed: int, dataset: str, question_id: str, repeat: int) -> int:
    """Sampling seed of a request: the same on every server, so that servers are compared on equal draws."""
    text = f"{study_seed}/{dataset}/{question_id}/{repeat}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "big") >> 1


class Study:
    """A validated config (schema defaults filled in) and the runs that it asks for.

    Raises ConfigError, one line with the key, for what a schema cannot see: unknown names, budgets beyond the
    context, tensor parallel sizes that do not divide the heads, files that are not there.
    """

    def __init__(self, config: Mapping[str, Any], prompts: Path) -> None:
        self.config = config
        self.name: str = config["study"]
        self.models: Mapping[str, Any] = {name: ordered(spec) for name, spec in config["models"].items()}
        self.datasets: Mapping[str, Any] = {name: ordered(spec) for name, spec in config["datasets"].items()}
        self.engines = choose("engines", config["engines"], list(ENGINES))
        self._check_paths(prompts)
        self.pairs = self._pairs()
        self.runs = {run.folder: run for name in config["experiments"] for run in self._expand(name)}

    def _check_paths(self, prompts: Path) -> None:
        for key, path in walk_paths(self.config):
            if not path.exists():
                raise ConfigError(f"{key}: {path} is not there; give an existing file or folder")
        templates = sorted(p.stem for p in prompts.glob("*.jinja"))
        for name, dataset in self.datasets.items():
            choose(f"datasets.{name}.prompt", [dataset["prompt"]], templates)

    def _pairs(self) -> dict[str, dict[str, str]]:
        pairs: dict[str, dict[str, str]] = {}
        for name, model in self.models.items():
            if "pair" not in model:
                continue
            pair = pairs.setdefault(model["pair"], {})
            if model["role"] in pair:
                raise ConfigError(
                    f"models.{name}.pair: the pair '{model['pair']}' has the {model['role']} "
                    f"'{pair[model['role']]}' already; a pair is one llm and one rllm"
                )
            pair[model["role"]] = name
        return pairs

    def options(self, model: str, setup: str) -> Options:
        """Serving options: the study's, then the model's, then the setup's, later ones winning."""
        layers = (self.config["serving"], self.models[model].get("serving", {}), self.config["setups"][setup])
        merged = {key: value for layer in layers for key, value in layer.items()}
        return Options(**merged)

    def figures(self, experiment: str) -> list[str]:
        """Figures that an experiment can give: sweeps need two values of what they sweep."""
        entry = self.config["experiments"][experiment]
        batches = [load for load in entry["loads"] if load["kind"] == "batch"]
        wanted = {
            "budget": len(entry["budgets"]) > 1,
            "batch": len(batches) > 1,
            "timeline": True,
            "stragglers": bool(batches),
            "difficulty": True,
            "domain": True,
        }
        return [name for name, possible in wanted.items() if possible]

    def _expand(self, name: str) -> list[Run]:
        entry, key = self.config["experiments"][name], f"experiments.{name}"
        measurable = [m for m, spec in self.models.items() if spec["role"] != "draft"]
        models = choose(f"{key}.models", entry["models"], measurable)
        engines = choose(f"{key}.engines", entry["engines"], self.engines)
        datasets = choose(f"{key}.datasets", entry["datasets"], self.datasets)
        quantizations = choose(f"{key}.quantizations", entry["quantizations"], self.config["quantizations"])
        setups = choose(f"{key}.setups", entry["setups"], self.config["setups"])
        for dataset in datasets:
            have, want = self.datasets[dataset].get("questions"), entry.get("questions")
            if have and want and want > have:
                raise ConfigError(
                    f"{key}.questions: {want} asked, datasets.{dataset}.questions gives {have}; allowed: up to {have}"
                )
            asked = want or have
            for number, load in enumerate(entry["loads"]):
                if asked and load["size"] > asked:
                    raise ConfigError(
                        f"{key}.loads.{number}.size: {load['size']} at once of the {asked} questions of "
                        f"{dataset} would be fewer than it says; allowed: up to {asked}, or more questions"
                    )
        points = tuple(
            Point(dataset, Load(**load), budget, repeat, entry.get("questions"))
            # Repeats are the outermost loop: what drifts while a run lasts then falls on every condition alike.
            for repeat in range(entry["repeats"])
            for dataset in datasets
            for load in entry["loads"]
            for budget in entry["budgets"]
        )
        runs = []
        for model in models:
            spec = self.models[model]
            for setup in setups:
                options = self.options(model, setup)
                self._check_options(model, setup, options, max(entry["budgets"]), key)
                runs += [
                    Run(
                        experiment=name,
                        engine=engine,
                        model=model,
                        quantization=quantization,
                        setup=setup,
                        role=spec["role"],
                        reasoning_parser=spec.get("reasoning_parser"),
                        trust_remote_code=spec.get("trust_remote_code", False),
                        options=options,
                        sampling=self.config["sampling"],
                        measurement=self.config["measurement"],
                        seed=self.config["seed"],
                        points=points,
                    )
                    for engine in engines
                    for quantization in quantizations
                ]
        return runs

    def _check_options(self, model: str, setup: str, options: Options, budget: int, key: str) -> None:
        if budget >= options.context_length:
            raise ConfigError(
                f"{key}.budgets: {budget} does not fit into serving.context_length {options.context_length} of "
                f"model '{model}', setup '{setup}', with a prompt; allowed: smaller budgets or a longer context"
            )
        heads = attention_heads(self.models[model], f"models.{model}.path")
        if heads is not None and heads % options.tensor_parallel:
            raise ConfigError(
                f"serving.tensor_parallel (model '{model}', setup '{setup}'): {options.tensor_parallel} does not "
                f"divide the model's {heads} attention heads; allowed: {_divisors(heads)}"
            )


def attention_heads(model: Mapping[str, Any], key: str) -> int | None:
    """Attention heads of a model as far as its config entry tells before anything is fetched, else None.

    Raises ConfigError, naming `key`, for a local folder that is no checkpoint.
    """
    if model["source"] == "micro":
        return shape.HEADS[model["role"]]
    if model["source"] == "path":
        file = Path(model["path"]).expanduser() / "config.json"
        try:
            described = json.loads(file.read_text(encoding="utf-8"))
            return described.get("text_config", described).get("num_attention_heads")
        except (OSError, ValueError, AttributeError) as error:
            raise ConfigError(
                f"{key}: no readable {file} ({error}); give the folder of a Hugging Face checkpoint"
            ) from None
    return None


def _divisors(number: int) -> str:
    return ", ".join(str(n) for n in range(1, number + 1) if number % n == 0)
