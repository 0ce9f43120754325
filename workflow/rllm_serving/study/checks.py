"""Checks of a config against what is possible, as far as that is known before anything is fetched."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..grading import sandbox
from ..models.micro_recipes import RECIPES
from ..serving.engines import Options
from .config_errors import ConfigError, resolve_names
from .design import Load, Run
from .paths import check_path, config_paths
from .quantization_methods import METHODS

NEEDS_DRAFT_MODEL = ("draft", "eagle3")
"""Kinds of speculative decoding that need a model of their own."""
MOST_POINTS = 100_000
"""Of an experiment, on all its servers: beyond that the plan alone takes longer than anyone waits."""
SHORTEST_PROMPT = 16
"""Tokens: no question is shorter, with the chat template around it."""


def check_references(config: Mapping[str, Any], prompts: Path) -> None:
    """Check that files exist, and that entries name only what is there.

    Args:
        config: the completed config.
        prompts: folder of prompt templates.

    Raises:
        ConfigError: for the first that is missing.
    """
    for key, text in config_paths(config):
        path = check_path(key, text)
        if key == "compare_with":
            check_results(path)
    templates = sorted(file.stem for file in prompts.glob("*.jinja"))
    for name, dataset in config["datasets"].items():
        resolve_names(f"datasets.{name}.prompt", [dataset["prompt"]], templates)
    for name, quantization in config["quantizations"].items():
        resolve_names(f"quantizations.{name}.checkpoints", list(quantization.get("checkpoints", {})), config["models"])
        if "dataset" in quantization:
            resolve_names(f"quantizations.{name}.dataset", [quantization["dataset"]], config["datasets"])
    for name, experiment in config["experiments"].items():
        for number, load in enumerate(experiment["loads"]):
            if "trace" in load:
                resolve_names(f"experiments.{name}.loads.{number}.trace", [load["trace"]], config["traces"])


def check_results(folder: Path) -> None:
    """Check that a folder has the results of a study of this workflow.

    Raises:
        ConfigError: when something is not there that two studies are compared by.
    """
    missing = [name for name in ("starts.parquet", "summary.parquet", "runs") if not (folder / name).exists()]
    if missing:
        raise ConfigError(
            f"compare_with: {folder} has no {missing[0]}; give the `results` folder of a study of this workflow that "
            "ran to its end"
        )


def find_pairs(models: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return the model of each role of each pair. The only model of a study may name none: it is one by itself.

    Raises:
        ConfigError: when a pair has two models of one role, or one of several models names none.
    """
    measured = {name: model for name, model in models.items() if model["role"] != "draft"}
    pairs: dict[str, dict[str, str]] = {}
    for name, model in measured.items():
        if "pair" not in model and len(measured) > 1:
            raise ConfigError(
                f"models.{name}: the key 'pair' is missing; pair: the same name for an llm and the rllm that it is "
                "compared with; only a study of one model needs none"
            )
        pair = pairs.setdefault(model.get("pair", name), {})
        if model["role"] in pair:
            raise ConfigError(
                f"models.{name}.pair: the pair '{model['pair']}' has the {model['role']} "
                f"'{pair[model['role']]}' already; a pair is one llm and one rllm"
            )
        pair[model["role"]] = name
    # In one order, whatever that of the models: figures are drawn with it.
    return {pair: dict(sorted(roles.items())) for pair, roles in sorted(pairs.items())}


def check_size(key: str, factors: Mapping[str, int]) -> None:
    """Check that an experiment is not too large to be planned.

    Args:
        key: dotted key of the experiment.
        factors: what its points are combined from: key -> number.

    Raises:
        ConfigError: when there are more than MOST_POINTS.
    """
    points = math.prod(factors.values())
    if points > MOST_POINTS:
        largest = max(factors, key=lambda name: factors[name])
        product = " x ".join(f"{number:,} {name}" for name, number in factors.items() if number > 1)
        raise ConfigError(f"{key}.{largest}: {product} are {points:,} points; allowed: up to {MOST_POINTS:,} in all")


def check_load_names(key: str, loads: Sequence[Mapping[str, Any]]) -> None:
    """Check that no two loads of an experiment share the name that their files and rows have.

    Args:
        key: dotted key of the experiment.
        loads: its loads.

    Raises:
        ConfigError: for the second of two.
    """
    places: dict[str, int] = {}
    for place, name in enumerate(Load(**load).name for load in loads):
        if name in places:
            raise ConfigError(
                f"{key}.loads.{place}: is called '{name}', as {key}.loads.{places[name]} is; allowed: loads that "
                "differ within the first six digits of a number, and names of traces that do not make one name of two"
            )
        places[name] = place


def check_questions(key: str, entry: Mapping[str, Any], names: Sequence[str], datasets: Mapping[str, Any]) -> None:
    """Check that an experiment asks no more questions than there are, and that these fill its loads.

    No load sends more at once than are asked; batches come out even: a smaller last one would weigh as much as the
    others in what is averaged over batches. Sets whose number of questions is not known before they are fetched are not
    checked.

    Args:
        key: dotted key of the experiment.
        entry: the experiment.
        names: its datasets.
        datasets: all datasets.

    Raises:
        ConfigError: for the first that is too large, or does not divide the requests.
    """
    for dataset in names:
        available, asked = datasets[dataset].get("num_questions"), entry.get("num_questions")
        if available and asked and asked > available:
            raise ConfigError(
                f"{key}.num_questions: {asked} asked, datasets.{dataset}.num_questions gives {available}; "
                f"allowed: up to {available}"
            )
        requests = (asked or available or 0) * datasets[dataset].get("n_samples", 1)
        for number, load in enumerate(entry["loads"]):
            size = load.get("size", 0)
            if requests and size > requests:
                raise ConfigError(
                    f"{key}.loads.{number}.size: {size} at once are more than the {requests} requests to "
                    f"{dataset}; allowed: up to {requests}, or more questions"
                )
            if requests and load["type"] == "batch" and requests % size:
                raise ConfigError(
                    f"{key}.loads.{number}.size: {size} does not divide the {requests} requests to {dataset}, the last "
                    f"batch would be smaller; allowed: {_divisors(requests, near=size)}, or another number of questions"
                )


def check_options(models: Mapping[str, Any], model: str, setup: str, options: Options, budget: int, key: str) -> None:
    """Check serving options against the model: its context, its draft model, its attention heads.

    Args:
        models: all models.
        model: name of the one that is served.
        setup: name of the setup, for the message.
        options: the serving options.
        budget: largest token budget of the experiment.
        key: dotted key of the experiment.

    Raises:
        ConfigError: for the first that does not fit.
    """
    if budget + SHORTEST_PROMPT > options.context_length:
        raise ConfigError(
            f"{key}.budgets: {budget} does not fit into serving.context_length {options.context_length} of model "
            f"'{model}', setup '{setup}', with a prompt of {SHORTEST_PROMPT} tokens or more; allowed: smaller "
            "budgets or a longer context"
        )
    if options.speculative in NEEDS_DRAFT_MODEL:
        drafts = [m for m, spec in models.items() if spec["role"] == "draft"]
        resolve_names(f"setups.{setup}.draft_model (model '{model}')", [str(options.draft_model)], drafts)
    checked = options.max_running_requests * (1 + options.speculative_tokens * (options.speculative != "none"))
    if options.prefill_chunk_tokens < checked:
        raise ConfigError(
            f"serving.prefill_chunk_tokens (model '{model}', setup '{setup}'): {options.prefill_chunk_tokens} are "
            f"fewer than the {checked} tokens that serving.max_running_requests {options.max_running_requests} may "
            f"decode in a step; allowed: {checked} or more"
        )
    heads = attention_heads(models[model], f"models.{model}.path")
    if heads is not None and heads % options.tensor_parallel:
        raise ConfigError(
            f"serving.tensor_parallel (model '{model}', setup '{setup}'): {options.tensor_parallel} does not "
            f"divide the model's {heads} attention heads; allowed: {_divisors(heads)}"
        )


def check_quantization_dataset(run: Run, config: Mapping[str, Any]) -> None:
    """Check that a model that is quantized has questions for it; micro models have their own.

    Raises:
        ConfigError: when the quantization of the run names no dataset.
    """
    needed = METHODS[run.method].has_checkpoint and config["models"][run.model]["source"] != "micro"
    if needed and "dataset" not in config["quantizations"][run.quantization]:
        raise ConfigError(
            f"quantizations.{run.quantization}.dataset: missing, but needed for model '{run.model}' (experiment "
            f"'{run.experiment}'): the questions that it is quantized and checked with; "
            f"allowed: {', '.join(config['datasets'])}"
        )


def check_sandbox() -> None:
    """Check that answers that are code can be executed in a sandbox.

    Raises:
        ConfigError: when they cannot, with the reason.
    """
    if reason := sandbox.unavailable_reason():
        raise ConfigError(f"grading.execute_code: {reason}; or set it to false: code is then asked but not graded")


def attention_heads(model: Mapping[str, Any], key: str) -> int | None:
    """Return a model's attention heads, None where they are not known before it is fetched.

    Args:
        model: its entry in the config.
        key: dotted key of its path, for the message.

    Raises:
        ConfigError: when a local folder is no checkpoint.
    """
    if model["source"] == "micro":
        return RECIPES[model["role"]].heads
    if model["source"] == "path":
        file = Path(model["path"]).expanduser() / "config.json"
        try:
            settings = json.loads(file.read_text(encoding="utf-8"))
            return settings.get("text_config", settings).get("num_attention_heads")
        except (OSError, ValueError, AttributeError) as error:
            raise ConfigError(
                f"{key}: no readable {file} ({error}); give the folder of a Hugging Face checkpoint"
            ) from None
    return None


def _divisors(number: int, near: int = 1) -> str:
    """The ten divisors of a number that are nearest to another one, ascending."""
    smaller = [n for n in range(1, math.isqrt(number) + 1) if number % n == 0]
    divisors = sorted({*smaller, *(number // n for n in smaller)})
    return ", ".join(map(str, sorted(sorted(divisors, key=lambda n: abs(n - near))[:10])))


def check_capacity(
    config: Mapping[str, Any],
    datasets: Mapping[str, Any],
    experiment: str,
    servers: Callable[[str], Mapping[str, Sequence[Run]]],
) -> None:
    """Check that loads with a load factor have a capacity, which another experiment measures at saturation.

    Args:
        config: a completed one.
        datasets: the study's.
        experiment: its name.
        servers: returns the runs of each server that the capacity of an experiment is measured on.

    Raises:
        ConfigError: for a missing capacity, unknown names, and an experiment that does not saturate its servers.
    """
    entry, key = config["experiments"][experiment], f"experiments.{experiment}"
    spec = entry.get("capacity")
    if spec is None:
        if any("load_factor" in load for load in entry["loads"]):
            raise ConfigError(f"{key}.capacity: missing, but its loads are a share of one; name experiment and dataset")
        return
    resolve_names(f"{key}.capacity.experiment", [spec["experiment"]], config["experiments"])
    other = config["experiments"][spec["experiment"]]
    resolve_names(f"{key}.capacity.dataset", [spec["dataset"]], resolve_names("", other["datasets"], datasets))
    needed = max(run.options.max_running_requests for runs in servers(experiment).values() for run in runs)
    sizes = [load["size"] for load in other["loads"] if load["type"] == "closed"]
    if max(sizes, default=0) < needed:
        raise ConfigError(
            f"{key}.capacity.experiment: '{spec['experiment']}' does not saturate its servers; allowed: an "
            f"experiment with a closed load of size {needed} (serving.max_running_requests) or more"
        )
