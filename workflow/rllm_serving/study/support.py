"""What a server cannot serve, and why: options that an engine has not, and what needs a server of one's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..serving.engines import ENGINES, Options
from .config_engines import by_model
from .config_errors import ConfigError, resolve_names
from .design import Run


def refusals(run: Run, config: Mapping[str, Any], platform: Sequence[str]) -> dict[str, str]:
    """Return why a run's engine cannot serve it: dotted key of the config -> reason; empty where it can.

    Args:
        run: one of an experiment.
        config: the completed config.
        platform: the machine's `hardware.platform_tags`.
    """
    if run.endpoint is not None:
        return dict(_needs_control(run, config))
    if config["models"][run.model]["source"] == "served":
        return {f"models.{run.model}.source": f"there is no checkpoint of it that {run.engine} could be started with"}
    found = ENGINES[run.engine].refusals(run.served, platform)
    return {_key(run, option): reason for option, reason in found}


def _key(run: Run, option: str) -> str:
    return f"quantizations.{run.quantization}.method" if option == "quantization" else f"setups.{run.setup}.{option}"


def _needs_control(run: Run, config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What a server that already runs cannot be told: how to serve, and fields of requests that it does not know."""
    assert run.endpoint is not None
    entry, extras = config["engines"][run.engine], run.endpoint["extras"]
    if run.method != "bf16":
        yield f"quantizations.{run.quantization}", f"{run.engine} already runs: its weights are what they are"
    parts = {
        f"setups.{run.setup}": config["setups"][run.setup],
        f"experiments.{run.experiment}.serving": config["experiments"][run.experiment]["serving"],
    }
    for key, options in parts.items():
        for option in options:
            if option != "context_length":
                yield f"{key}.{option}", f"{run.engine} already runs: it is not started with options"
    if isinstance(entry.get("model"), Mapping) and run.model not in entry["model"]:
        yield f"engines.{run.engine}.model", f"{run.engine} does not serve {run.model}"
    if run.thinking is not None and "chat_template_kwargs" not in extras:
        yield (
            f"models.{run.model}.thinking",
            f"{run.engine} is not told so: engines.{run.engine}.extras lacks chat_template_kwargs",
        )
    if any(point.load.replay_output_lengths for point in run.points) and "ignore_eos" not in extras:
        yield (
            f"experiments.{run.experiment}.loads",
            f"{run.engine} cannot replay lengths: engines.{run.engine}.extras lacks ignore_eos",
        )


def endpoint_of(engine: str, entry: Mapping[str, Any], model: str) -> dict[str, Any] | None:
    """Return what `Run.endpoint` has for a model on an engine; None for one that the workflow starts.

    Args:
        engine: its name.
        entry: of the completed config.
        model: name of the model.
    """
    if not entry:
        return None
    chosen = {name: value for name, value in entry.items() if name not in ("type", "max_requests")}
    for name, default in (("model", model), ("tokenizer", None)):
        texts = dict(by_model(entry[name])) if name in entry else {}
        chosen[name] = texts.get(model, texts.get("", default))
    return {"name": engine, **chosen}


def assumed_options(options: Options, endpoint: Mapping[str, Any]) -> Options:
    """Return what is taken for granted of a server that already runs: its context, how much it is sent at once."""
    return Options(context_length=options.context_length, max_running_requests=endpoint["max_in_flight"])


def check_entries(engines: Mapping[str, Mapping[str, Any]], models: Mapping[str, Any]) -> None:
    """Check that entries of engines name models of the config.

    Raises:
        ConfigError: for the first that does not.
    """
    for engine, entry in engines.items():
        for name in ("model", "tokenizer"):
            named = [model for model, _ in by_model(entry.get(name, {})) if model]
            resolve_names(f"engines.{engine}.{name}", named, models)


def check_served_names(runs: Sequence[Run], models: Mapping[str, Any]) -> None:
    """Check that no server is said to serve two checkpoints under one name.

    Raises:
        ConfigError: for the first that is.
    """
    seen: dict[tuple[str, str], str] = {}
    for run in runs:
        if run.endpoint is not None:
            other = seen.setdefault((run.engine, run.endpoint["model"]), run.model)
            if _checkpoint(models[other]) != _checkpoint(models[run.model]) or (
                other != run.model and models[other].get("thinking") == models[run.model].get("thinking")
            ):
                raise ConfigError(
                    f"engines.{run.engine}.model: '{run.endpoint['model']}' would be both {other} and {run.model}; "
                    "give a mapping with the server's name of each, or name its models in the experiment"
                )


def _checkpoint(spec: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(spec.get(name) for name in ("source", "id", "revision", "path"))


def check_in_flight(experiment: str, loads: Sequence[Mapping[str, Any]], runs: Sequence[Run]) -> None:
    """Check that no load of an experiment is larger than what a server that already runs may be sent at once.

    Raises:
        ConfigError: for the first that is.
    """
    for endpoint in (run.endpoint for run in runs if run.endpoint is not None):
        for place, load in enumerate(loads):
            if load.get("size", 0) > endpoint["max_in_flight"]:
                raise ConfigError(
                    f"experiments.{experiment}.loads.{place}.size: {load['size']} at once are more than "
                    f"engines.{endpoint['name']}.max_in_flight allows; allowed: up to {endpoint['max_in_flight']}"
                )
