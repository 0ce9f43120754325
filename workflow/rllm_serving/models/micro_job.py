"""Training a micro model as a job: in the training environment, its progress in the log, its checkpoint described."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rllm_serving.models.checkpoints import ModelError, describe
from rllm_serving.serving.process import ChildError, run_in_environment


def train(name: str, spec: Mapping[str, Any], seed: int, python: Path, prompts: Path, target: Path) -> dict[str, Any]:
    """Train the micro model `name` into `target`/checkpoint and describe it in `target`/model.json.

    spec is its config entry, python that of the training environment, prompts the folder of prompt templates.

    Returns:
        The record, as of `checkpoints.prepare_checkpoint`, and `training`: what the training recorded.

    Raises:
        ModelError: when the training fails.
    """
    checkpoint = target / "checkpoint"
    arguments = ["--role", spec["role"], "--seed", str(seed), "--prompts", str(prompts), "--out", str(checkpoint)]
    arguments += ["--steps-scale", str(spec.get("training_scale", 1.0))]
    try:
        run_in_environment(name, python, "rllm_serving.models.micro_training", arguments)
    except ChildError as error:
        raise ModelError(f"models.{name}: its training {error}") from None
    record = {
        "source": "micro",
        "id": None,
        "revision": None,
        "commit": None,
        "path": str(checkpoint.absolute()),
        **describe(name, checkpoint),
        "training": json.loads((checkpoint / "training.json").read_text()),
    }
    (target / "model.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return record
