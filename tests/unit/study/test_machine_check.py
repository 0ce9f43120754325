"""Whether a machine can do a study, told before anything is fetched."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from helpers.fake_nvml import Nvml
from helpers.studies import REMOVED, changed, load
from rllm_serving.serving import machine as machines
from rllm_serving.serving.machine import Disk, Machine, this_machine
from rllm_serving.study.estimate import Plan
from rllm_serving.study.machine_check import Findings, MachineError, check, text
from rllm_serving.study.requirements import requirements

HUB = {"source": "hub", "id": "some/model", "revision": "main", "role": "llm", "pair": "big", "parameters_b": 8}
CHANGES: tuple[tuple[str, Any], ...] = (
    ("device", "cuda"),
    ("engines", ["vllm", "sglang"]),
    ("serving.context_length", 32768),
    ("models", {"big": HUB}),
    ("experiments.single", REMOVED),
)
QUANTIZED: tuple[tuple[str, Any], ...] = (
    (
        "quantizations",
        {"w4": {"method": "gptq-int4", "dataset": "facts"}, "w8": {"method": "int8", "dataset": "facts"}},
    ),
    ("experiments.budget.quantizations", ["bf16", "w4", "w8"]),
)


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty folder on a large disk, no token, a compiler, no scheduler."""
    monkeypatch.chdir(tmp_path)
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr("rllm_serving.study.machine_check.disk_of", lambda _: Disk(1, 10**13))


@pytest.fixture
def with_gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[[Nvml], Machine]:
    """What is found on a machine with such GPUs."""

    def look(nvml: Nvml) -> Machine:
        monkeypatch.setitem(sys.modules, "pynvml", nvml)
        return this_machine()

    return look


def needs(*changes: tuple[str, Any]) -> dict[str, Any]:
    found = requirements(Plan(load(changed(*CHANGES, *changes))), ROOT / "workflow" / "envs")
    assert json.loads(json.dumps(found)) == found  # a job's parameter
    return found


def found(
    asked: dict[str, Any],
    machine: Machine,
    access: Callable[[str, str], str | None] = lambda *_: None,
    serves: bool = True,
) -> Findings:
    return check(asked, machine, Path("resources"), Path("cache"), access, serves)


def test_a_machine_that_has_all_it_needs(with_gpus: Callable[[Nvml], Machine]) -> None:
    machine = with_gpus(Nvml(2))
    findings = found(needs(), machine)
    assert findings == Findings((), ())
    findings.raise_problems()
    assert machine.describe()["gpus"][0]["capability"] == "sm90" and machine.kind.startswith(
        "driver 580.1; NVIDIA Test"
    )
    shown = text(needs(), machine, findings)
    # 8 billion parameters: 14.9 GiB of weights; a token's 127 kB are estimated.
    assert "serving big" in shown and " 14.9 " in shown and "here: 2 x NVIDIA Test, driver 580.1" in shown


@pytest.mark.parametrize(
    ("nvml", "changes", "problems"),
    [
        (
            Nvml(2, version="570.133.20"),
            (),
            ["NVIDIA driver 570.133.20 is too old: CUDA 13.0 of sglang-cuda, vllm-cuda"],
        ),
        (Nvml(2, version="580"), (), []),
        (Nvml(2, capability=(7, 5)), (), ["NVIDIA Test (sm75) has no bfloat16: sm80 (A100) or later is needed"]),
        (
            Nvml(2, memory=16 * 2**30),
            (),
            ["big bf16 (baseline) (estimated): serving.context_length: one context of 32,768"],
        ),
        (Nvml(2), [("serving.tensor_parallel", 4)], ["big bf16 (baseline): 4 GPUs needed, 2 can be used here; lower"]),
        (
            Nvml(2, capability=(10, 0)),
            QUANTIZED,
            [
                "big w8 (baseline): vllm cannot serve int8 on sm100",
                "big w8 (baseline): sglang cannot serve int8 on sm100",
            ],
        ),
        (
            Nvml(2, memory=24 * 2**30),
            (*QUANTIZED, ("serving.prefill_chunk_tokens", 2048), ("serving.context_length", 4096)),
            ["quantizing big: 2 GPUs of 24 GiB needed to hold it in bf16, it asks for 1 of 2; raise models.big"],
        ),
    ],
)
def test_each_thing_that_is_missing_has_its_line(
    nvml: Nvml, changes: tuple[tuple[str, Any], ...], problems: list[str], with_gpus: Callable[[Nvml], Machine]
) -> None:
    findings = found(needs(*changes), with_gpus(nvml))
    assert len(findings.problems) == len(problems), findings.problems
    assert all(line.startswith(start) for line, start in zip(findings.problems, problems, strict=True))
    if problems:
        with pytest.raises(MachineError, match="nothing was fetched:\n- "):
            findings.raise_problems()


def test_formats_that_mean_something_else_there_are_noted(with_gpus: Callable[[Nvml], Machine]) -> None:
    kv = [("setups", {"kv": {"kv_cache_dtype": "fp8-e4m3"}}), ("experiments.budget.setups", ["baseline", "kv"])]
    findings = found(needs(*kv), with_gpus(Nvml(2, capability=(8, 0))))
    assert not findings.problems and len(findings.notes) == 2 and "FlashInfer" in findings.notes[1]


def test_a_machine_without_gpus_may_fetch_but_not_serve() -> None:
    none = Machine(None, (), "no NVIDIA GPU can be used here", "/usr/bin/g++")
    (problem,) = found(needs(), none).problems
    assert problem.startswith("no NVIDIA GPU can be used here. A machine that only fetches: `snakemake prepare --until")
    findings = found(needs(), none, serves=False)
    assert not findings.problems and findings.notes[0].startswith("no GPU was looked at: jobs that need one check it")
    assert "here: no NVIDIA GPU can be used here" in text(needs(), none, findings)
    assert found(needs(("device", "cpu")), none) == Findings((), ())


def test_a_compiler_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch, with_gpus: Callable[[Nvml], Machine]
) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    (problem,) = found(needs(), with_gpus(Nvml(2))).problems
    assert problem.startswith("no C++ compiler (g++ or c++): install it") and "apt install g++" in problem


def test_what_is_there_already_needs_no_room(
    monkeypatch: pytest.MonkeyPatch, with_gpus: Callable[[Nvml], Machine]
) -> None:
    machine = with_gpus(Nvml(2))
    monkeypatch.setattr("rllm_serving.study.machine_check.disk_of", lambda _: Disk(1, 20 * 10**9))
    (problem,) = found(needs(), machine).problems
    assert "36 GB to be written, 20 free (largest: big 16, " in problem and "point HF_HOME to another disk" in problem
    record = Path("resources/environments/vllm-cuda/environment.json")
    record.parent.mkdir(parents=True)
    record.touch()
    assert "26 GB to be written, 20 free" in found(needs(), machine).problems[0]
    blobs = Path("cache/models--some--model/blobs")
    blobs.mkdir(parents=True)
    with (blobs / "weights").open("wb") as file:
        file.truncate(7 * 10**9)
    assert not found(needs(), machine).problems


def test_two_disks_are_counted_apart(monkeypatch: pytest.MonkeyPatch, with_gpus: Callable[[Nvml], Machine]) -> None:
    disks = {"cache": Disk(1, 15 * 10**9), "resources": Disk(2, 30 * 10**9)}
    monkeypatch.setattr("rllm_serving.study.machine_check.disk_of", lambda folder: disks[folder.name])
    (problem,) = found(needs(), with_gpus(Nvml(2))).problems
    assert problem.startswith(f"disk of {Path('cache').absolute()}: 16 GB to be written, 15 free")


def test_gated_models_need_a_token_whose_value_is_never_told(
    monkeypatch: pytest.MonkeyPatch, with_gpus: Callable[[Nvml], Machine]
) -> None:
    machine, gated = with_gpus(Nvml(2)), needs(("models.big.id", "meta-llama/Big"))
    (problem,) = found(gated, machine).problems
    assert problem == "model meta-llama/Big is gated and HF_TOKEN is not set: accept its terms, then export HF_TOKEN"
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert not found(gated, machine).problems
    (problem,) = found(gated, machine, lambda name, kind: f"no access to this {kind}").problems
    assert problem == "model meta-llama/Big: no access to this model" and "hf_secret" not in problem
    Path("resources/models/big").mkdir(parents=True)
    Path("resources/models/big/model.json").touch()
    assert not found(gated, machine, lambda *_: "no access").problems


def test_every_lock_has_a_version_of_cuda_whose_driver_is_known() -> None:
    (version,) = needs()["cuda"]
    assert int(version.partition(".")[0]) in machines.DRIVERS
    unknown = {"cuda": {"99.0": ["vllm-cuda"]}}
    machine = Machine("580", (machines.MachineGpu("g", 80 * 2**30, machines.Capability(9, 0)),), "", "/usr/bin/g++")
    (problem,) = found(needs() | unknown, machine).problems
    assert problem.startswith("CUDA 99.0 of vllm-cuda: the driver that it needs is not known")
