"""Quantization: what the engines are told of it, and what a config may ask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.studies import changed, load
from rllm_serving.serving.engines import ENGINES, Options, ServerConfig
from rllm_serving.study.config_errors import ConfigError
from rllm_serving.study.quantization_methods import METHODS

HUB = {"source": "hub", "role": "llm", "pair": "x", "id": "owner/name", "revision": "main"}


def words(engine: str, method: str, device: str = "cpu") -> list[str]:
    launch = ServerConfig(Path("py"), Path("m"), None, "m", device, Options(), None, False, 1, method)
    return ENGINES[engine].command(launch, 1)


def test_engines_are_told_of_methods_that_no_checkpoint_tells() -> None:
    for engine in ENGINES:
        assert words(engine, "int8") == words(engine, "bf16")
    assert words("sglang", "torchao-int8-dynamic")[-2:] == ["--torchao-config", "int8dq"]
    for engine in ENGINES:
        assert " --quantization bitsandbytes --load-format bitsandbytes" in " ".join(words(engine, "bnb-nf4", "cuda"))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_served_or_refused_with_a_reason(engine: str, device: str, method: str) -> None:
    told = dict(ENGINES[engine].refusals({"quantization": method}, (device,)))
    on_cpu = {
        "vllm": {"bf16", "fp8", "int8", "gptq-int4", "awq-int4"},
        "sglang": {"bf16", "torchao-int8-weight", "torchao-int8-dynamic", "torchao-fp8-weight"},
    }
    if device == "cpu":
        assert bool(told) == (method not in on_cpu[engine])
    else:
        assert bool(told) == (engine == "vllm" and method.startswith("torchao"))
    assert all(len(reason) > 40 and "it has" not in reason for reason in told.values())


def test_the_study_knows_what_a_quantized_run_serves() -> None:
    study = load(
        changed(
            ("quantizations", {"w4": {"method": "gptq-int4"}}), ("experiments.single.quantizations", ["bf16", "w4"])
        )
    )
    assert {run.quantization: run.method for run in study.runs.values()} == {"bf16": "bf16", "w4": "gptq-int4"}
    assert study.has_checkpoint("w4") and not study.has_checkpoint("bf16")
    assert next(r for r in study.runs.values() if r.quantization == "w4").served["quantization"] == "gptq-int4"


def test_a_method_that_an_engine_does_not_serve_is_an_error_or_marked() -> None:
    changes: list[tuple[str, Any]] = [
        ("quantizations", {"nf4": {"method": "bnb-nf4"}}),
        ("experiments.single.quantizations", ["bf16", "nf4"]),
    ]
    with pytest.raises(ConfigError, match=r"^quantizations\.nf4\.method \(model 'tiny-rllm'.*bitsandbytes"):
        load(changed(*changes))
    study = load(changed(*changes, ("on_unsupported", "mark")))
    assert [row["quantization"] for row in study.unsupported] == ["nf4"]


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ({}, ["quantizations.q: ", "'method'", "gptq-int4"]),
        ({"method": "fp7"}, ["quantizations.q.method: ", "'fp7'", "awq-int4"]),
        ({"method": "fp8", "n_samples": 4}, ["quantizations.q: ", "'n_samples'", "looks at no texts"]),
        ({"method": "bnb-nf4", "dataset": "easy"}, ["quantizations.q: ", "'dataset'", "without a checkpoint"]),
        ({"method": "int8", "dataset": "gsm8k"}, ["quantizations.q.dataset: ", "'gsm8k'", "easy, facts"]),
        ({"method": "int8", "checkpoints": {}}, ["quantizations.q.checkpoints: ", "empty"]),
        ({"method": "int8", "checkpoints": {"x": {"path": "."}}}, ["quantizations.q.checkpoints: ", "'x'", "tiny-llm"]),
        (
            {"method": "int8", "checkpoints": {"tiny-llm": {"id": "a/b"}}},
            ["quantizations.q.checkpoints.tiny-llm: ", "'revision'"],
        ),
        (
            {"method": "int8", "checkpoints": {"tiny-llm": {"path": "no/such"}}},
            ["quantizations.q.checkpoints.tiny-llm.path: ", "no/such", "existing"],
        ),
        (
            {"method": "int8", "checkpoints": {"tiny-llm": {"path": ".", "id": "a/b"}}},
            ["quantizations.q.checkpoints.tiny-llm: ", "'id'", "beside path"],
        ),
    ],
)
def test_a_mistake_in_a_quantization_is_one_line(spec: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(changed(("quantizations", {"q": spec})))
    line = str(caught.value)
    assert line.startswith(parts[0]) and all(part in line for part in parts) and "\n" not in line, line


def test_a_folder_of_the_models_own_is_no_name_for_a_quantization() -> None:
    with pytest.raises(ConfigError, match=r"^quantizations: the key 'checkpoint' has no meaning as the name"):
        load(changed(("quantizations", {"checkpoint": {"method": "fp8"}})))


def test_a_model_that_is_not_micro_needs_questions_to_be_quantized_with() -> None:
    changes: list[tuple[str, Any]] = [
        ("models.x", HUB),
        ("quantizations", {"q": {"method": "int8"}}),
        ("experiments.budget.quantizations", ["q"]),
    ]
    with pytest.raises(ConfigError, match=r"^quantizations\.q\.dataset: missing.*'x'.*allowed: easy, facts$"):
        load(changed(*changes))
    assert load(changed(*changes, ("quantizations.q.dataset", "easy"))).runs
