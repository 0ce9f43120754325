"""Every quantization of the small study for real: made, checked, served, and still the same model."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from conftest import ROOT, SMALL, run
from rllm_serving.study.quantization_methods import METHODS

CONFIG = yaml.safe_load(SMALL.read_text())
QUANTIZATIONS: dict[str, Any] = CONFIG.get("quantizations", {})
MADE = [name for name, spec in QUANTIZATIONS.items() if METHODS[spec.get("method", "bf16")].has_checkpoint]


def runs(study: Path, quantization: str) -> list[Path]:
    return sorted(study.glob(f"results/runs/*/*/*/{quantization}/*/*/run.json"))


@pytest.mark.parametrize("name", MADE)
def test_a_checkpoint_is_as_small_as_its_method_says_and_answers_as_bf16_does(small_study: Path, name: str) -> None:
    files = sorted(small_study.glob(f"resources/models/*/{name}/model.json"))
    assert files
    for file in files:
        record = json.loads(file.read_text())
        made = record["quantization"]
        method = METHODS[made["method"]]
        assert made["size"]["kept"] == 0 and made["size"]["ratio"] == pytest.approx(method.ratio, rel=0.05)
        assert record["bytes"] < made["size"]["bf16_checkpoint_bytes"]
        assert made["agreement"]["asked"] == 32 and made["versions"]["llmcompressor"]
        assert bool(made["calibration"]) == method.calibrated
        config = json.loads((file.parent / "checkpoint" / "config.json").read_text())
        assert config["quantization_config"]["quant_method"] == "compressed-tensors"


BARE = """
import json, sys
from rllm_serving.quantization.worker import Generator
job = {"model": sys.argv[1], "trust_remote_code": False, "thinking": None, "device": "cpu"}
own = Generator(sys.argv[1], job).model.generation_config
print(json.dumps([own.repetition_penalty, own.top_k, own.temperature, own.eos_token_id]))
"""


def test_what_a_checkpoint_says_of_sampling_does_not_shape_its_texts(small_study: Path, tmp_path: Path) -> None:
    model = shutil.copytree(small_study / "resources/models/small-rllm/checkpoint", tmp_path / "model")
    file = model / "generation_config.json"
    own = json.loads(file.read_text()) if file.exists() else {"eos_token_id": 1}
    file.write_text(json.dumps(own | {"repetition_penalty": 1.05, "top_k": 20, "temperature": 0.1, "do_sample": True}))
    command = [str(small_study / "resources/environments/quantize-cpu/bin/python"), "-c", BARE, str(model)]
    ended = run(command, env=os.environ | {"PYTHONPATH": str(ROOT / "workflow")})
    assert ended.returncode == 0, ended.stdout
    assert json.loads(ended.stdout.splitlines()[-1]) == [None, None, None, own["eos_token_id"]]


@pytest.mark.parametrize("name", QUANTIZATIONS)
def test_every_quantization_is_served_and_its_run_says_what_was_served(small_study: Path, name: str) -> None:
    records = runs(small_study, name)
    assert records, "no engine serves it here: nothing is tested"
    for file in records:
        record = json.loads(file.read_text())
        method = QUANTIZATIONS[name].get("method", "bf16")
        assert record["config"]["method"] == method
        assert ("quantization" in record["model"]) == METHODS[method].has_checkpoint
        requests = pq.read_table(file.with_name("requests.parquet"))
        assert requests.num_rows and set(requests["status"].to_pylist()) == {"ok"}
