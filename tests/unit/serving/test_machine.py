"""What is found on a machine: driver, GPUs, compiler, disks."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from helpers.fake_nvml import Nvml
from rllm_serving.serving import machine as machines
from rllm_serving.serving.capability import Capability
from rllm_serving.serving.machine import MachineGpu, older, this_machine

pytestmark = pytest.mark.usefixtures("machine")


def test_the_gpus_that_jobs_may_use_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(4, capability=(8, 9), version="581.2"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    found = this_machine()
    assert found.gpus == (MachineGpu("NVIDIA Test", 80 * 2**30, Capability(8, 9)),) * 2
    assert found.driver == "581.2" and not found.no_gpus
    assert found.kind == f"driver 581.2; NVIDIA Test {80 * 2**30}, NVIDIA Test {80 * 2**30}"
    assert found.describe()["gpus"][1] == {"name": "NVIDIA Test", "memory_bytes": 80 * 2**30, "capability": "sm89"}


@pytest.mark.parametrize(
    ("nvml", "visible", "said"),
    [(Nvml(driver=False), None, "no NVIDIA GPU can be used here"), (Nvml(2), "", "CUDA_VISIBLE_DEVICES names no GPU")],
)
def test_why_there_are_none_is_said(
    nvml: Nvml, visible: str | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = this_machine()
    assert found.gpus == () and said in found.no_gpus and found.kind == ""


def test_drivers_have_an_order() -> None:
    assert older("570.133.20", (580,)) and older("525.60.12", machines.DRIVERS[12])
    assert not older("580.1", (580,)) and not older("580", (580,)) and not older("525.60.13", machines.DRIVERS[12])


def test_disks_are_those_of_the_folder_above_where_there_is_none(tmp_path: Path) -> None:
    there, later = machines.disk_of(tmp_path), machines.disk_of(tmp_path / "not" / "yet")
    assert there.device == later.device == tmp_path.stat().st_dev and later.free_bytes > 0
