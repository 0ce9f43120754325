"""Quantization: the job around it, with a stand-in for the tool's environment."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.checkpoint_fixtures import BEFORE, KEPT, PACKED, TEMPLATES, tensor
from helpers.fake_nvml import UUIDS, Nvml
from rllm_serving.datasets.prompts import render
from rllm_serving.models.checkpoints import ModelError
from rllm_serving.quantization import job as quantizing
from rllm_serving.quantization.calibration import micro_questions
from rllm_serving.serving import gpus as allotment
from rllm_serving.serving.gpus import GpuLease
from rllm_serving.serving.memory import GpuMemoryError
from rllm_serving.serving.process import ChildError, run_in_environment


def checkpoint(folder: Path, tensors: dict[str, Any], quant_method: str | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    config = {"architectures": ["Qwen3ForCausalLM"], "max_position_embeddings": 2048}
    config |= {"quantization_config": {"quant_method": quant_method}} if quant_method else {}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    header = json.dumps(tensors).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    return folder


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """model.json of a bf16 checkpoint."""
    folder = checkpoint(tmp_path / "m" / "checkpoint", BEFORE)
    record = {"source": "micro", "id": None, "revision": None, "commit": None, "path": str(folder), "bytes": 1000}
    file = tmp_path / "m" / "model.json"
    file.write_text(json.dumps(record | {"max_position_embeddings": 2048}))
    return file


Jobs = list[dict[str, Any]]


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Jobs]:
    """Puts a tool in place that writes these tensors and answers; gives the jobs that it was asked to do."""

    def install(tensors: dict[str, Any], right: bool = True) -> Jobs:
        jobs: Jobs = []

        def work(
            name: str, python: Path, module: str, arguments: Sequence[str], gpus: GpuLease, **variables: str
        ) -> None:
            job = json.loads(Path(arguments[0]).read_text())
            jobs.append(job | {"gpus": gpus.uuids})
            if job["scheme"] is not None:
                checkpoint(Path(job["out"]), tensors, "compressed-tensors")
            bf16 = [rf"\boxed{{{row['gold']}}}" for row in job["held_out"]]
            told = {"bf16": bf16, "quantized": bf16 if right else ["?"] * len(bf16), "seconds": 1.0, "versions": {}}
            told["calibration"] = {"kind": job["calibration"]} if job["calibration"] else None
            Path(job["answers"]).write_text(json.dumps(told))

        monkeypatch.setattr(quantizing, "run_in_environment", work)
        return jobs

    return install


def request(**spec: Any) -> quantizing.QuantizationJob:
    return quantizing.QuantizationJob(
        model="m",
        quantization="q",
        spec={"method": "gptq-int4", **spec},
        model_spec={"source": "micro", "role": "rllm"},
        rows=None,
        templates=TEMPLATES,
        seed=7,
        sampling={"temperature": 0.6, "top_p": 0.95},
        device="cpu",
    )


def test_a_quantized_model_is_recorded_with_all_that_made_it(base: Path, tmp_path: Path, tool: Any) -> None:
    jobs = tool(KEPT | PACKED)
    target = tmp_path / "m" / "q"
    checkpoint(target / "checkpoint", {}).joinpath("stale.safetensors").write_text("")
    record = quantizing.quantize(request(n_samples=8, calibration="plain"), base, Path("python"), target)
    assert json.loads((target / "model.json").read_text()) == record
    assert record["path"] == str(target / "checkpoint") and not (target / "checkpoint" / "stale.safetensors").exists()
    made = record["quantization"]
    assert (made["method"], made["scheme"], made["seconds"]) == ("gptq-int4", "W4A16", 1.0)
    assert made["calibration"] == {"kind": "plain", "source": "micro training questions"}
    assert made["agreement"]["equal_answers"] == 1.0 and made["size"]["layers"] == 1
    assert made["size"]["bf16_checkpoint_bytes"] == 1000 and made["size"]["checkpoint_bytes"] == record["bytes"]
    (job,) = jobs
    assert (job["modifier"], job["longest"], job["seed"], len(job["questions"])) == ("gptq", 512, 7, 8)
    first = micro_questions(8, 7)[0][0]
    assert job["questions"][0]["prompt"] == render(TEMPLATES["number"], first["question"], first["choices"])


def test_a_method_that_looks_at_no_texts_gets_none(base: Path, tmp_path: Path, tool: Any) -> None:
    jobs = tool(KEPT | {"model.layers.0.mlp.up_proj.weight": tensor("F8_E4M3", 512, 256)})
    record = quantizing.quantize(request(method="fp8"), base, Path("python"), tmp_path / "q")
    assert jobs[0]["calibration"] is None and record["quantization"]["calibration"] is None


def test_quantizing_sees_the_gpus_that_it_was_granted(
    base: Path, tmp_path: Path, tool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(3))
    monkeypatch.setattr(allotment, "LOCKS", tmp_path / "locks")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,0")
    jobs = tool(KEPT | PACKED)
    for device, count in (("cpu", 0), ("cuda", 2)):
        quantizing.quantize(replace(request(), device=device, gpus=count), base, Path("python"), tmp_path / device)
    assert [(job["device"], job["gpus"]) for job in jobs] == [("cpu", ()), ("cuda", (UUIDS[2], UUIDS[0]))]


def test_too_few_gpus_are_refused_before_the_tool_starts(
    base: Path, tmp_path: Path, tool: Any, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = tool(KEPT | PACKED)
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(4, memory=16 * 2**30))
    record = json.loads(base.read_text())
    base.write_text(json.dumps(record | {"parameters": 10**10}))
    with pytest.raises(GpuMemoryError, match=r"quantizations\.q \(model 'm'\): 3 GPUs of 16 GiB .*there are 2; raise"):
        quantizing.quantize(replace(request(), device="cuda", gpus=2), base, Path("python"), tmp_path / "q")
    assert not jobs


def test_nothing_is_recorded_of_a_model_that_fails_its_checks(base: Path, tmp_path: Path, tool: Any) -> None:
    tool(KEPT | PACKED, right=False)
    with pytest.raises(ModelError, match=r"^quantizations\.q \(model 'm'\): .*fewer than 20%"):
        quantizing.quantize(request(), base, Path("python"), tmp_path / "q")
    assert not (tmp_path / "q" / "model.json").exists()


def test_a_ready_made_checkpoint_is_linked_and_checked(base: Path, tmp_path: Path, tool: Any) -> None:
    jobs = tool({})
    ready = checkpoint(tmp_path / "ready", KEPT | PACKED, "compressed-tensors")
    record = quantizing.quantize(request(checkpoints={"m": {"path": str(ready)}}), base, Path("python"), tmp_path / "q")
    assert (tmp_path / "q" / "checkpoint").resolve() == ready and record["source"] == "path"
    assert jobs[0]["scheme"] is None and record["quantization"]["agreement"]["equal_answers"] == 1.0


def test_a_ready_made_checkpoint_of_another_tool_is_judged_by_its_size(base: Path, tmp_path: Path, tool: Any) -> None:
    jobs = tool({})
    ready = checkpoint(tmp_path / "ready", KEPT | PACKED, "gptq")
    spec = request(checkpoints={"m": {"path": str(ready)}})
    record = quantizing.quantize(spec, base, Path("python"), tmp_path / "q")
    assert jobs == [] and record["quantization"]["agreement"] is None and record["quantization"]["size"]["layers"] == 1
    checkpoint(ready, KEPT | PACKED, "awq")
    with pytest.raises(ModelError, match=r"^quantizations\.q\.checkpoints\.m: .*'awq'; gptq-int4 is one of"):
        quantizing.quantize(spec, base, Path("python"), tmp_path / "q")


def test_a_tool_that_fails_is_told_with_its_last_lines(base: Path, tmp_path: Path, monkeypatch: Any) -> None:
    def fail(*arguments: Any, **variables: str) -> None:
        raise ChildError("ended with code 1: out of memory")

    monkeypatch.setattr(quantizing, "run_in_environment", fail)
    with pytest.raises(ModelError, match=r"^quantizations\.q \(model 'm'\): .*code 1: out of memory"):
        quantizing.quantize(request(), base, Path("python"), tmp_path / "q")


def test_a_program_of_another_environment_is_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        run_in_environment("it", Path(sys.executable), "rllm_serving.logs", [], SOME="1")
        with pytest.raises(ChildError, match=r"(?s)ended with code 1: .*No module named rllm_serving\.nowhere"):
            run_in_environment("it", Path(sys.executable), "rllm_serving.nowhere", [])
    assert "it: " in caplog.text
