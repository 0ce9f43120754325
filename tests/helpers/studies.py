"""Small configs for tests: one that is right, and ways to change it."""

from __future__ import annotations

import copy
import os
import re
from pathlib import Path
from typing import Any

import yaml
from conftest import ROOT, run, snakemake
from rllm_serving.study.config import complete_config
from rllm_serving.study.study import Study

PROMPTS = ROOT / "resources" / "prompts"
COMPILING = os.environ | {"PYTHONDONTWRITEBYTECODE": ""}
"""Environment in which Snakemake's own modules are compiled once, not at each of many calls."""
REMOVED = object()
"""As a value of `changed`: take the key away."""

TINY: dict[str, Any] = {
    "study": "tiny",
    "device": "cpu",
    "engines": ["vllm"],
    "models": {
        "tiny-llm": {"source": "micro", "role": "llm", "pair": "tiny"},
        "tiny-rllm": {"source": "micro", "role": "rllm", "pair": "tiny", "reasoning_parser": "deepseek-r1"},
    },
    "datasets": {
        "easy": {"source": "micro", "suite": "arith-easy", "num_questions": 8, "prompt": "arith"},
        "facts": {"source": "micro", "suite": "facts-mcq", "num_questions": 8, "prompt": "facts"},
    },
    "serving": {"context_length": 512},
    "experiments": {
        "budget": {
            "num_questions": 4,
            "starts": 1,
            "repeats": 2,
            "budgets": [16, 32],
            "loads": [{"type": "batch", "size": 2}, {"type": "closed", "size": 3}],
        },
        "single": {
            "models": ["tiny-rllm"],
            "datasets": ["easy"],
            "starts": 1,
            "budgets": [64],
            "loads": [{"type": "closed", "size": 8}],
        },
    },
}

STREAM = [
    (
        "experiments.full",
        {"datasets": ["easy"], "budgets": [64], "starts": 1, "loads": [{"type": "closed", "size": 64}]},
    ),
    ("datasets.easy", {"source": "micro", "suite": "arith-easy", "num_questions": 64, "prompt": "arith"}),
    ("experiments.stream", {"datasets": ["easy"], "budgets": [64], "starts": 1, "repeats": 3, "optional": True}),
    ("experiments.stream.capacity", {"experiment": "full", "dataset": "easy"}),
    ("experiments.stream.loads", [{"type": "open", "load_factor": 0.5, "burstiness": 0.25}]),
]
"""Changes to TINY: an open-loop experiment, and one that measures its capacity."""


def changed(*changes: tuple[str, Any], base: dict[str, Any] = TINY) -> dict[str, Any]:
    """A copy of `base` with values put at dotted keys ("experiments.budget.budgets"), or REMOVED from there."""
    config = copy.deepcopy(base)
    for dotted, value in changes:
        *parents, last = dotted.split(".")
        place: Any = config
        for name in parents:
            place = place.setdefault(name, {})
        if value is REMOVED:
            del place[last]
        else:
            place[last] = copy.deepcopy(value)
    return config


def load(config: dict[str, Any]) -> Study:
    """The study of a config, checked and completed as the workflow does it. Raises ConfigError."""
    complete = complete_config(config)
    return Study(complete, PROMPTS, complete["device"])


def write(config: dict[str, Any], file: Path) -> Path:
    """The config as a YAML file, keys in their order."""
    file.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return file


def dry_run(folder: Path, file: Path, *arguments: str, **variables: str) -> str:
    """What the real workflow says to a config that it must refuse, besides naming its profile."""
    ended = run(snakemake(folder, "-n", *arguments, config=file), env=COMPILING | variables)
    assert ended.returncode == 1, ended.stdout
    return re.sub(r"^Using workflow specific profile .*\n", "", ended.stdout).strip()
