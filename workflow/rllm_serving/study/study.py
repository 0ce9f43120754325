"""The study: what a config means, as the runs that it asks for."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from ..serving.engines import ENGINES, Options
from ..serving.hardware import platform_tags
from .budgets import check_budgets, derivations, measured_budgets
from .checks import (
    NEEDS_DRAFT_MODEL,
    check_capacity,
    check_load_names,
    check_options,
    check_quantization_dataset,
    check_questions,
    check_references,
    check_sandbox,
    check_size,
    find_pairs,
)
from .config_engines import engine_entries
from .config_errors import ConfigError, resolve_names
from .design import Load, Run, canonical_json, expand_sweep
from .quantization_methods import METHODS
from .support import assumed_options, check_entries, check_in_flight, check_served_names, endpoint_of, refusals

CODE_FORMATS = ("humaneval",)
"""Formats of datasets whose answers are code: they are graded by running them."""


class Study:
    """A completed config, and the runs that it asks for.

    Attributes:
        config: the completed config (see `config.complete_config`).
        device: what engines run on: "cpu" or "cuda".
        models: the config's models; those of the hub that `local_paths` has, from there. `datasets` likewise.
        quantizations: the config's, each with its method.
        engines: the study's engines, in the config's order.
        pairs: of each pair: role -> model.
        experiments: the runs of each experiment, all starts of a server one after the other.
        runs: folder -> run.
        servers: the servers of each experiment: `Run.server` -> the runs of its starts.
        priorities: folder -> priority of its job: the first start of every server comes before any second one.
        sweeps: what an experiment's points are combined from (see `design.expand_sweep`).
        derivations: budgets of each experiment that are derived from larger ones; not among its points.
        unsupported: what engines cannot serve, with `on_unsupported: mark`: SERVER_KEYS and `reason`.

    Raises:
        ConfigError: one line with the key, for what no single key shows: unknown names, budgets beyond the context,
            tensor parallel sizes that do not divide the heads, missing files, options that an engine cannot serve.
    """

    def __init__(self, config: Mapping[str, Any], prompts: Path, device: str) -> None:
        self.config, self.device, self._platform = config, device, platform_tags(device)
        self.name: str = config["study"]
        self.models: Mapping[str, Any] = {name: self._localized(spec) for name, spec in config["models"].items()}
        self.datasets: Mapping[str, Any] = {name: self._localized(spec) for name, spec in config["datasets"].items()}
        self.quantizations: Mapping[str, Any] = {
            name: {"method": "bf16", **canonical_json(spec)} for name, spec in config["quantizations"].items()
        }
        self._engine_entries = engine_entries(config["engines"])
        own = [name for name, entry in self._engine_entries.items() if not entry]
        resolve_names("engines", own, list(ENGINES))
        self.engines = list(self._engine_entries)
        check_entries(self._engine_entries, config["models"])
        check_references(config, prompts)
        self.pairs = find_pairs(self.models)
        self.unsupported: list[dict[str, str]] = []
        self.sweeps: dict[str, dict[str, Any]] = {}
        self.derivations = {name: derivations(entry) for name, entry in config["experiments"].items()}
        self.experiments = {name: self._expand(name) for name in config["experiments"]}
        self.runs = {run.folder: run for runs in self.experiments.values() for run in runs}
        self.servers: dict[str, dict[str, list[Run]]] = {name: {} for name in self.experiments}
        for run in self.runs.values():
            self.servers[run.experiment].setdefault(run.server, []).append(run)
        self.priorities = self._priorities()
        for name in config["experiments"]:
            check_capacity(config, self.datasets, name, self.capacity)
            check_in_flight(name, config["experiments"][name]["loads"], self.experiments[name])
        check_served_names(list(self.runs.values()), self.models)
        if config["grading"]["execute_code"] and any(map(self.code, self.experiments)):
            check_sandbox()

    def _localized(self, spec: Mapping[str, Any]) -> Mapping[str, Any]:
        """A model or dataset; one of the hub that `local_paths` has, from there. Its id stays with it."""
        path = self.config["local_paths"].get(spec.get("id"))
        return canonical_json(spec if path is None else {**spec, "source": "path", "path": path})

    def options(self, experiment: str, model: str, setup: str) -> Options:
        """Serving options: the study's, then the model's, the experiment's, the setup's, later ones winning."""
        layers = (self.config["experiments"][experiment]["serving"], self.config["setups"][setup])
        options = self._serving(model, *layers)
        # A draft model that nothing uses must not make a run depend on it.
        return options if options.speculative in NEEDS_DRAFT_MODEL else replace(options, draft_model=None)

    def gpus(self, model: str) -> int:
        """GPUs that a model's own weights are spread over, whatever an experiment or a setup says."""
        return self._serving(model).tensor_parallel

    def _serving(self, model: str, *layers: Mapping[str, Any]) -> Options:
        """The study's options, the model's, and those of further layers, later ones winning."""
        merged = {**self.config["serving"], **self.models[model].get("serving", {})}
        for layer in layers:
            merged |= layer
        return Options(**merged)

    def has_checkpoint(self, quantization: str) -> bool:
        """Whether models quantized so have a checkpoint of their own, rather than being quantized by the engine."""
        return METHODS[self.quantizations[quantization]["method"]].has_checkpoint

    def _priorities(self) -> dict[str, int]:
        """Blocks: start 1 of every server, in an order drawn from the seed, then start 2: drift falls on all alike."""
        ordered = []
        for experiment, servers in self.servers.items():
            names = list(servers)
            for start in range(1, self.starts(experiment) + 1):
                random.Random(f"{self.config['seed']}/{experiment}/{start}").shuffle(names)
                ordered += [(start, servers[name][start - 1].folder) for name in names]
        # Sorting keeps the order of experiments within a block.
        folders = [folder for _, folder in sorted(ordered, key=lambda pair: pair[0])]
        return {folder: len(folders) - place for place, folder in enumerate(folders)}

    def starts(self, experiment: str) -> int:
        """How often each server of an experiment is started."""
        return int(self.config["experiments"][experiment]["starts"])

    def baseline(self, run: Run, basis: str) -> str | None:
        """Return the server that a candidate is compared with; None where there is none.

        Args:
            run: a start of the candidate.
            basis: "engine": the baseline is the same on the first of the experiment's `engines`, whether or not that
                one can serve it; "baseline": bf16 with the baseline setup on the same engine.
        """
        if basis == "engine":
            changed = {"engine": self.experiment_engines(run.experiment)[0]}
        else:
            changed = {"quantization": "bf16", "setup": "baseline"}
        server = "/".join((run.keys | changed).values())
        return server if server != run.server and server in self.servers[run.experiment] else None

    def experiment_engines(self, experiment: str) -> list[str]:
        """Engines that an experiment asks for, in the config's order."""
        key, entry = f"experiments.{experiment}.engines", self.config["experiments"][experiment]
        return resolve_names(key, entry["engines"], self.engines)

    @property
    def default_experiments(self) -> list[str]:
        """Experiments that are made without being asked for by name."""
        return [name for name, experiment in self.config["experiments"].items() if not experiment["optional"]]

    def checkpoints(self, experiments: Iterable[str]) -> list[str]:
        """Models whose checkpoints these experiments need, for serving or as drafts."""
        runs = [run for name in experiments for run in self.experiments[name] if run.endpoint is None]
        return sorted({model for run in runs for model in (run.model, run.options.draft_model) if model})

    def quantized(self, experiments: Iterable[str]) -> list[tuple[str, str]]:
        """(model, quantization) of each checkpoint in a format of its own that these experiments serve."""
        runs = [run for name in experiments for run in self.experiments[name]]
        return sorted({(run.model, run.quantization) for run in runs if self.has_checkpoint(run.quantization)})

    def environments(self, experiments: Iterable[str]) -> list[str]:
        """Environments that these experiments need: of engines, of training, of quantizing."""
        names = list(experiments)
        runs = [run for name in names for run in self.experiments[name] if run.endpoint is None]
        tools = {f"{run.engine}-{self.device}" for run in runs}
        if any(self.models[model]["source"] == "micro" for model in self.checkpoints(names)):
            tools.add("train-cpu")
        if self.quantized(names):
            tools.add(f"quantize-{self.device}")
        return sorted(tools)

    def comparisons(self, experiment: str, basis: str) -> list[tuple[str, list[str]]]:
        """Return [(baseline, [candidates]), ...], servers of an experiment (see `baseline`)."""
        candidates: dict[str, list[str]] = {}
        for server, runs in self.servers[experiment].items():
            baseline = self.baseline(runs[0], basis)
            if baseline is not None:
                candidates.setdefault(baseline, []).append(server)
        return list(candidates.items())

    def identical_to_baseline(self, experiment: str) -> list[str]:
        """Servers of an experiment that are compared with a baseline which has the same weights and options."""
        servers = self.servers[experiment]
        return [
            candidate
            for baseline, candidates in self.comparisons(experiment, "baseline")
            for candidate in candidates
            if (servers[candidate][0].options, servers[candidate][0].quantization)
            == (servers[baseline][0].options, servers[baseline][0].quantization)
        ]

    def _expand(self, name: str) -> list[Run]:
        entry, key = self.config["experiments"][name], f"experiments.{name}"
        measurable = [m for m, spec in self.models.items() if spec["role"] != "draft"]
        models = resolve_names(f"{key}.models", entry["models"], measurable)
        engines = self.experiment_engines(name)
        datasets = resolve_names(f"{key}.datasets", entry["datasets"], self.datasets)
        quantizations = resolve_names(f"{key}.quantizations", entry["quantizations"], self.config["quantizations"])
        setups = resolve_names(f"{key}.setups", entry["setups"], self.config["setups"])
        check_budgets(key, entry, [engine for engine in engines if self._engine_entries[engine]])
        check_load_names(key, entry["loads"])
        check_questions(key, entry, datasets, self.datasets)
        budgets = measured_budgets(entry)
        check_size(
            key,
            {
                "starts": entry["starts"],
                "repeats": entry["repeats"],
                "models": len(models),
                "engines": len(engines),
                "setups": len(setups) + len(quantizations) - 1,
                "datasets": len(datasets),
                "loads": len(entry["loads"]),
                "budgets": len(budgets),
            },
        )
        sweep = {"budgets": budgets, **{name: entry.get(name) for name in ("loads", "repeats", "num_questions")}}
        samples = {dataset: self.datasets[dataset].get("n_samples", 1) for dataset in datasets}
        self.sweeps[name] = canonical_json({**sweep, "datasets": datasets, "n_samples": samples})
        points = [expand_sweep(self.sweeps[name], start) for start in range(1, entry["starts"] + 1)]
        sampling = {**self.config["sampling"], **entry["sampling"]}
        runs = []
        # One thing changes at a time: setups with the first weight format, other formats with the first setup.
        servers = [(setup, quantizations[0]) for setup in setups] + [(setups[0], other) for other in quantizations[1:]]
        for model, (setup, quantization) in product(models, servers):
            spec, options = self.models[model], self.options(name, model, setup)
            check_options(self.models, model, setup, options, max(budgets), key)
            for engine in engines:
                endpoint = endpoint_of(engine, self._engine_entries[engine], model)
                run = Run(
                    experiment=name,
                    engine=engine,
                    model=model,
                    quantization=quantization,
                    setup=setup,
                    start=1,
                    role=spec["role"],
                    reasoning_parser=spec.get("reasoning_parser"),
                    trust_remote_code=spec.get("trust_remote_code", False),
                    options=options if endpoint is None else assumed_options(options, endpoint),
                    sampling=sampling,
                    measurement=self.config["measurement"],
                    seed=self.config["seed"],
                    points=points[0],
                    method=self.quantizations[quantization]["method"],
                    thinking=spec.get("thinking"),
                    endpoint=endpoint,
                )
                if self._supported(run):
                    check_quantization_dataset(run, self.config)
                    runs += [replace(run, start=start, points=own) for start, own in enumerate(points, 1)]
        return runs

    def _supported(self, run: Run) -> bool:
        """Whether the run's engine can serve it; if not, it is an error or marked, as the config says."""
        found = refusals(run, self.config, self._platform)
        if not found:
            return True
        key, reason = next(iter(found.items()))
        if self.config["on_unsupported"] == "error":
            raise ConfigError(
                f"{key} (model '{run.model}', experiment '{run.experiment}'): {reason}; choose "
                f"other engines for it (experiments.{run.experiment}.engines), or set on_unsupported: mark to leave "
                "such cells out and say so in the tables"
            )
        self.unsupported.append({**run.keys, "reason": "; ".join(found.values())})
        return False

    def open_loop(self, experiment: str) -> bool:
        """Whether an experiment has open-loop loads, and so a file of arrivals."""
        return any(Load(**load).open_loop for load in self.config["experiments"][experiment]["loads"])

    def traces(self, experiment: str) -> dict[str, Any]:
        """Entries of the config's `traces` that an experiment's loads name."""
        names = [load.get("trace") for load in self.config["experiments"][experiment]["loads"]]
        return {name: canonical_json(spec) for name, spec in self.config["traces"].items() if name in names}

    def capacity(self, experiment: str) -> dict[str, list[Run]]:
        """Return the servers that define an experiment's capacity: "engine/model" -> the runs of its starts."""
        spec = self.config["experiments"][experiment].get("capacity")
        if spec is None:
            return {}
        servers = dict.fromkeys((run.engine, run.model) for run in self.experiments[experiment])
        runs = {}
        for engine, model in servers:
            server = f"{spec['experiment']}/{engine}/{model}/bf16/baseline"
            if server not in self.servers[spec["experiment"]]:
                raise ConfigError(
                    f"experiments.{experiment}.capacity.experiment: '{spec['experiment']}' does not serve {model} on "
                    f"{engine} in bf16 with the baseline; name one that does"
                )
            runs[f"{engine}/{model}"] = self.servers[spec["experiment"]][server]
        return runs

    def code(self, experiment: str) -> list[str]:
        """Datasets of an experiment whose answers are code."""
        return [
            name for name in self.sweeps[experiment]["datasets"] if self.datasets[name].get("format") in CODE_FORMATS
        ]

    def notes(self) -> list[str]:
        """What the user should know before the study runs, a line each."""
        if self.config["grading"]["execute_code"]:
            return []
        return [
            f"datasets.{name}: its answers are code, which is not run (grading.execute_code is off): they are asked, "
            "served and timed, but not graded; accuracy stays empty"
            for name in sorted({name for experiment in self.experiments for name in self.code(experiment)})
        ]
