"""Checks of a config against what is possible, as far as that is known before anything is fetched."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..models.micro_recipes import RECIPES
from ..serving.engines import Options
from .config_errors import ConfigError, resolve_names

NEEDS_DRAFT_MODEL = ("draft", "eagle3")
"""Kinds of speculative decoding that need a model of their own."""


def check_questions(key: str, entry: Mapping[str, Any], names: Sequence[str], datasets: Mapping[str, Any]) -> None:
    """Check that an experiment asks no more questions than there are, and sends no more at once than it asks.

    Args:
        key: dotted key of the experiment.
        entry: the experiment.
        names: its datasets.
        datasets: all datasets.

    Raises:
        ConfigError: for the first that is too large.
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
            if requests and load.get("size", 0) > requests:
                raise ConfigError(
                    f"{key}.loads.{number}.size: {load['size']} at once are more than the {requests} requests to "
                    f"{dataset}; allowed: up to {requests}, or more questions"
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
    if budget >= options.context_length:
        raise ConfigError(
            f"{key}.budgets: {budget} does not fit into serving.context_length {options.context_length} of "
            f"model '{model}', setup '{setup}', with a prompt; allowed: smaller budgets or a longer context"
        )
    if options.speculative in NEEDS_DRAFT_MODEL:
        drafts = [m for m, spec in models.items() if spec["role"] == "draft"]
        resolve_names(f"setups.{setup}.draft_model (model '{model}')", [str(options.draft_model)], drafts)
    heads = attention_heads(models[model], f"models.{model}.path")
    if heads is not None and heads % options.tensor_parallel:
        raise ConfigError(
            f"serving.tensor_parallel (model '{model}', setup '{setup}'): {options.tensor_parallel} does not "
            f"divide the model's {heads} attention heads; allowed: {_divisors(heads)}"
        )


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


def _divisors(number: int) -> str:
    return ", ".join(str(n) for n in range(1, number + 1) if number % n == 0)
