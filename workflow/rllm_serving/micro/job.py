"""Training a micro model as a job: in the training environment, its progress in the log, its checkpoint described."""

from __future__ import annotations

import json
import logging
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rllm_serving.models import ModelError, describe

log = logging.getLogger(__name__)


def train(name: str, spec: Mapping[str, Any], seed: int, python: Path, prompts: Path, target: Path) -> dict[str, Any]:
    """Train the micro model `name` into `target`/checkpoint and describe it in `target`/model.json.

    spec: its config entry (`role`, optional `training_scale`); python: interpreter of the training environment;
    prompts: folder of the templates that questions are asked with. Raises ModelError when the training fails.
    """
    checkpoint = target / "checkpoint"
    command = [str(python), "-m", "rllm_serving.micro.training", "--role", spec["role"], "--seed", str(seed)]
    command += ["--prompts", str(prompts), "--out", str(checkpoint)]
    command += ["--steps-scale", str(spec.get("training_scale", 1.0))]
    library = str(Path(__file__).parents[2])
    variables = os.environ | {"PYTHONPATH": library, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    last: list[str] = []
    with subprocess.Popen(
        command, env=variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as training:
        assert training.stdout is not None
        for line in training.stdout:
            log.info("%s: %s", name, line.rstrip())
            last = [*last[-9:], line]
    if training.returncode:
        raise ModelError(f"models.{name}: its training ended with code {training.returncode}: {''.join(last)}")
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
