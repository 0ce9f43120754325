"""What a point's numbers depend on, as digests: points that were measured under other ones are of no use."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ..code_digest import Library, behaviour
from ..study.design import Run
from .paths import RunPaths


@cache
def measuring_code() -> str:
    """Digest of what the code that measures does; taken once a process."""
    return behaviour(*Library().reached(Path(__file__).with_name("run.py")))


def fingerprint(
    run: Run,
    paths: RunPaths,
    device: str,
    environment: Mapping[str, Any],
    model: Mapping[str, Any],
    draft: Mapping[str, Any] | None,
) -> dict[str, str]:
    """Return the digest of each thing that the numbers of a run's points depend on, by its name in words.

    Args:
        run: what is measured; its points do not count, for each is compared by itself.
        paths: the files that it reads.
        device: "cpu" or "cuda".
        environment: contents of environment.json.
        model: contents of model.json.
        draft: the same of the model that proposes tokens.
    """
    config = {key: value for key, value in run.to_dict().items() if key != "measurement"}
    # Timeouts and limits decide whether a point counts, not what it measures: they may change between attempts.
    config["sample_hz"] = run.measurement["sample_hz"]
    if run.endpoint is not None:
        # Neither does how it is warmed up; the tokenizer counts by its content, which stands in `model`.
        apart = ("api_key_env", "tokenizer", "warm_up_rounds")
        config["endpoint"] = {name: value for name, value in run.endpoint.items() if name not in apart}
    files = {**paths.datasets, **{f"template {name}": path for name, path in paths.templates.items()}}
    if paths.arrivals is not None:
        files["arrivals"] = paths.arrivals
    content = {
        "version of measuring": run.version,
        "code": measuring_code(),
        "config": config,
        "device": device,
        "packages of the engine": environment["packages"],
        "model": model,
        "draft model": draft,
        "questions, prompts or arrivals": {name: _sha256(path.read_bytes()) for name, path in files.items()},
    }
    return {name: _sha256(json.dumps(value, sort_keys=True).encode()) for name, value in content.items()}


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
