"""A study over the stand-in engine: its folder, and what came of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from conftest import ROOT
from helpers.sse_fixtures import THINK_CLOSE
from rllm_serving.lifetime.supervisor import alive

RUNS = {name: f"results/runs/{name}/vllm/rllm/bf16/baseline/1" for name in ("one", "two", "again")}
"""Of each experiment its run; `two` is served on two GPUs, under a stream, the others on one."""
GRADES = {name: f"results/analysis/{name}/grades/rllm.parquet" for name in RUNS}
ARRIVALS = "results/arrivals/two.parquet"
BATCHES: dict[str, Any] = {
    "datasets": ["easy"],
    "models": ["rllm"],
    "starts": 1,
    "budgets": [16, 64],
    "loads": [{"type": "batch", "size": 3}],
}
CONFIG: dict[str, Any] = {
    "study": "cluster",
    "device": "cuda",
    "engines": ["vllm"],
    "models": {
        "llm": {"source": "path", "role": "llm", "pair": "x"},
        "rllm": {"source": "path", "role": "rllm", "pair": "x", "reasoning_parser": "deepseek-r1"},
    },
    "datasets": {"easy": {"source": "micro", "suite": "arith-easy", "num_questions": 6, "prompt": "arith"}},
    "serving": {"context_length": 512},
    # The scripted server counts nothing, and the machine is busy with the test.
    "measurement": {"on_invalid": "mark"},
    "experiments": {
        "one": BATCHES,
        "again": BATCHES,
        "two": BATCHES
        | {
            "serving": {"tensor_parallel": 2},
            "budgets": [16],
            "loads": [{"type": "open", "rate": 50, "burstiness": 1}],
        },
    },
}
# Beside the library, where a job finds it before the real one: two GPUs.
NVML = f"""\
import sys
sys.path.append({str(ROOT / "tests")!r})
from helpers.fake_nvml import Nvml
NVMLError, machine = Nvml.NVMLError, Nvml(2)
def __getattr__(name):
    return getattr(machine, name)
"""
HANG = {"Let 64": "hang"}
"""Faults under which the second point of a batch run never ends."""


def lay(folder: Path, environments: Path | None = None) -> Path:
    """A checkout with the study's config, a checkpoint, GPUs, and an environment whose Python is the stand-in engine.

    environments: where the environment itself lies, if not beside its record.
    """
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE).stdout
    for name in listed.splitlines():
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / "workflow/pynvml.py").write_text(NVML)
    checkpoint = folder / "checkpoint"
    checkpoint.mkdir(parents=True)
    shape = {"num_attention_heads": 4, "num_key_value_heads": 2}
    tokens = {"added_tokens": [{"id": THINK_CLOSE, "content": "</think>"}]}
    (checkpoint / "config.json").write_text(json.dumps(shape))
    (checkpoint / "tokenizer.json").write_text(json.dumps(tokens))
    (checkpoint / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    models = {name: spec | {"path": str(checkpoint)} for name, spec in CONFIG["models"].items()}
    (folder / "study.yaml").write_text(yaml.safe_dump(CONFIG | {"models": models}, sort_keys=False))
    record = folder / "resources/environments/vllm-cuda/environment.json"
    interpreter = (environments or record.parents[1]) / "vllm-cuda/bin/python"
    for file in (record, interpreter):
        file.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps({"packages": {"vllm": "stand-in"}, "python": "3.11"}))
    interpreter.write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT}/tests/cluster/engine.py "$@"\n')
    interpreter.chmod(0o755)
    return folder


def results(folder: Path) -> dict[str, pd.DataFrame]:
    """What must not depend on where a study was run: questions, arrivals, answers with their tokens, grades."""
    asked = ["dataset", "load", "budget", "repeat", "question_id", "index", "batch", "seed", "status", "finish_reason"]
    told = ["prompt_tokens", "reasoning_tokens", "answer_tokens", "reasoning_text", "answer_text"]
    found = {name: pd.read_parquet(folder / name) for name in ("resources/datasets/easy.parquet", ARRIVALS)}
    for name in ("one", "two"):
        run = RUNS[name]
        found[run] = pd.read_parquet(folder / run / "requests.parquet")[asked + told]
        found[f"{run}, graded"] = pd.read_parquet(folder / GRADES[name])
    return found


def starts(folder: Path) -> list[dict[str, Any]]:
    """The engine's starts so far, oldest first."""
    file = folder / "engines.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def served(folder: Path) -> list[int]:
    """Processes of all engines of a study that are alive."""
    pids = [start["pid"] for start in starts(folder)]
    pids += [int(note.read_text()) for note in folder.glob("grandchild-*")]
    return [pid for pid in pids if alive(pid)]
