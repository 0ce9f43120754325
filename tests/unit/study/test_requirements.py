"""What a study needs of a machine, as plain rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from helpers.studies import REMOVED, changed, load
from rllm_serving.study.estimate import Plan
from rllm_serving.study.requirements import GATED, TOKEN_BYTES, requirements, requirements_of_jobs
from unit.models.test_checkpoints import checkpoint, folder_of, safetensors
from unit.study.test_estimate import BIG, QUANTIZED


def needs(*changes: tuple[str, Any]) -> dict[str, Any]:
    return requirements(Plan(load(changed(*BIG, *changes))), ROOT / "workflow" / "envs")


def test_servers_that_need_the_same_are_one_row() -> None:
    setups = {"again": {}, "kv": {"kv_cache_dtype": "fp8-e4m3"}}
    rows = needs(("setups", setups), ("experiments.budget.setups", ["baseline", *setups]))["servers"]
    assert [(row["setups"], row["engines"]) for row in rows] == [
        (["baseline", "again"], ["vllm"]),
        (["kv"], ["vllm"]),
    ]
    # Ten billion parameters on two GPUs; FP8 halves a token.
    assert [row["weight_bytes"] for row in rows] == [10e9, 10e9]
    token = TOKEN_BYTES * 10**0.5 / 2
    assert [row["token_bytes"] for row in rows] == pytest.approx([token, token / 2], abs=1)
    assert all(row["estimated"] for row in rows)


def test_what_is_not_known_before_it_is_fetched_is_null() -> None:
    (row,) = needs(("models.big.parameters_b", REMOVED))["servers"]
    assert row["weight_bytes"] is None and row["token_bytes"] is None


def test_the_shape_of_a_local_checkpoint_is_read(tmp_path: Path) -> None:
    shape = {"num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64}
    files = checkpoint() | {"model.safetensors": safetensors([1000, 2000])}
    folder = folder_of(tmp_path / "small", files)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | shape))
    local = {"source": "path", "path": str(folder), "role": "llm", "pair": "big"}
    (row,) = needs(("models", {"big": local}))["servers"]
    assert row["token_bytes"] == 2 * 4 * 2 * 64 * 2 and not row["estimated"]


def test_quantizing_needs_the_model_in_bf16_and_every_file_its_place() -> None:
    found = needs(*QUANTIZED)
    assert [(row["model"], row["gpus"], row["weight_bytes"]) for row in found["quantizing"]] == [("big", 2, 20e9)]
    places = {row["what"]: (row["record"], row["hub"]) for row in found["files"]}
    assert places["big"] == ("models/big/model.json", "some/model")
    assert places["big w4"] == ("models/big/w4/model.json", None)
    assert places["quantize-cuda"] == ("environments/quantize-cuda/environment.json", None)
    assert found["gpus"] == 2 and "quantize-cuda" in [name for names in found["cuda"].values() for name in names]


def test_a_call_needs_what_its_own_jobs_need() -> None:
    plan = Plan(load(changed(*BIG, *QUANTIZED, ("experiments.budget.optional", True))))
    locks, runs = ROOT / "workflow" / "envs", list(plan.study.experiments["budget"])
    assert not requirements(plan, locks)["servers"]
    plain = [run for run in runs if run.quantization == "bf16"]
    model = "resources/models/big/model.json"
    found = requirements_of_jobs(plan, locks, plain, [], [model, "results/runs/x/run.json"])
    assert [row["server"] for row in found["servers"]] == ["big bf16"] and found["gpus"] == 2
    assert [row["what"] for row in found["files"]] == ["big"] and [row["id"] for row in found["gated"]] == [
        "some/model"
    ]
    assert not found["quantizing"] and found["cuda"] == {"13.0": ["vllm-cuda"]}
    # Quantizing alone needs a GPU, however many it would like; what is there is not fetched.
    found = requirements_of_jobs(plan, locks, [], ["big"], [])
    assert found["gpus"] == 1 and [row["model"] for row in found["quantizing"]] == ["big"]
    assert not found["servers"] and not found["files"] and not found["gated"]
    assert [name for names in found["cuda"].values() for name in names] == ["quantize-cuda"]


def test_known_gated_ids_are_those_of_their_owners() -> None:
    assert GATED.match("meta-llama/Llama-3.3-70B-Instruct") and GATED.match("Idavidrein/gpqa")
    assert not GATED.match("Qwen/Qwen2.5-7B-Instruct") and not GATED.match("other/meta-llama/x")


def test_a_study_without_gpus_needs_none() -> None:
    found = needs(("device", "cpu"))
    assert found["gpus"] == 0 and found["servers"] == [] and found["cuda"] == {}
