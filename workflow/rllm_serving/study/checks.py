"""What a config asks for against what is possible, as far as it can be told before anything is fetched."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..models.micro_recipes import RECIPES
from ..serving.engines import Options
from .config import ConfigError, resolve_names
from .design import Load

NEEDS_DRAFT_MODEL = ("draft", "eagle3")
"""Kinds of speculation that need a model of their own."""


def check_loads(key: str, entry: Mapping[str, Any], traces: Mapping[str, Any]) -> None:
    """Raise ConfigError for loads without a pace, with two, or with traffic that the config does not have."""
    for number, load in enumerate(entry["loads"]):
        place = f"{key}.loads.{number}"
        if Load(**load).open_loop and ("rate" in load) == ("load_factor" in load):
            raise ConfigError(
                f"{place}: give either rate (requests/s) or load_factor (a share of the capacity), not both"
            )
        if "trace" in load:
            resolve_names(f"{place}.trace", [load["trace"]], traces)


def check_questions(key: str, entry: Mapping[str, Any], names: Sequence[str], datasets: Mapping[str, Any]) -> None:
    """Raise ConfigError where more questions are asked than there are, or more at once than in all."""
    for dataset in names:
        have, want = datasets[dataset].get("num_questions"), entry.get("num_questions")
        if have and want and want > have:
            raise ConfigError(
                f"{key}.num_questions: {want} asked, datasets.{dataset}.num_questions gives {have}; "
                f"allowed: up to {have}"
            )
        asked = (want or have or 0) * datasets[dataset].get("n_samples", 1)
        for number, load in enumerate(entry["loads"]):
            if asked and load.get("size", 0) > asked:
                raise ConfigError(
                    f"{key}.loads.{number}.size: {load['size']} at once of the {asked} requests of "
                    f"{dataset} would be fewer than it says; allowed: up to {asked}, or more questions"
                )


def check_options(models: Mapping[str, Any], model: str, setup: str, options: Options, budget: int, key: str) -> None:
    """Raise ConfigError for serving options that a model can't have: its context, its draft, its heads."""
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
    """Attention heads of a model as far as its config entry tells before anything is fetched, else None.

    Raises ConfigError, naming `key`, for a local folder that is no checkpoint.
    """
    if model["source"] == "micro":
        return RECIPES[model["role"]].heads
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
