"""Which GPUs CUDA_VISIBLE_DEVICES names: by numbers, UUIDs and MIG slices, in every device order."""

from __future__ import annotations

import sys

import pytest
from helpers.fake_nvml import SLICE, UUIDS, Nvml
from rllm_serving.serving.gpus import GpuError, acquire_gpus, visible_gpus

pytestmark = pytest.mark.usefixtures("machine")


@pytest.mark.parametrize(
    ("visible", "tokens"),
    [
        (None, ["0", "1", "2", "3"]),
        ("2,0", ["2", "0"]),
        # Numbers are what both engines understand; a UUID may be shortened.
        (f"{UUIDS[3]},{UUIDS[1][:8]}", ["3", "1"]),
        (f" 1, {UUIDS[1]} ,0", ["1", "0"]),
        ("", []),
    ],
)
def test_gpus_are_those_that_a_scheduler_gave_in_its_order(
    visible: str | None, tokens: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    gpus = visible_gpus()
    assert [gpu.token for gpu in gpus] == tokens
    assert [gpu.uuid for gpu in gpus] == [UUIDS[int(token)] for token in tokens]


def test_a_job_sees_its_gpus_alone_counted_as_nvml_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1,0")
    with acquire_gpus(2) as lease:
        assert lease.variables == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "3,1"}
        assert lease.uuids == (UUIDS[3], UUIDS[1])


def test_slices_of_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(3, divided=(1,)))
    assert [gpu.token for gpu in visible_gpus()] == ["0", "2"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", SLICE)
    with pytest.raises(GpuError, match=rf"the MIG slice '{SLICE}': slices of GPUs are not used.*ask for whole GPUs"):
        visible_gpus()
    for whole in ("1", UUIDS[1]):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", whole)
        with pytest.raises(GpuError, match=r"is no GPU here.*MIG mode do not count"):
            visible_gpus()


def test_where_all_gpus_are_divided_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(2, divided=(0, 1)))
    with pytest.raises(GpuError, match=r"all GPUs here are divided \(MIG mode\): slices of GPUs are not used"):
        visible_gpus()


def test_gpus_that_a_scheduler_keeps_for_itself_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(3, withheld=(0,)))
    assert [(gpu.token, gpu.uuid) for gpu in visible_gpus()] == [("0", UUIDS[1]), ("1", UUIDS[2])]


@pytest.mark.parametrize(
    ("visible", "order", "message"),
    [
        ("0,9", None, r"names '9', which is no GPU here: there is 0 = GPU-0000-uuid, 1 = "),
        ("GPU-", None, r"names 'GPU-', which is no GPU here"),
        ("NoDevFiles", None, r"names 'NoDevFiles'"),
        ("1", "FASTEST_FIRST", r"set CUDA_DEVICE_ORDER=PCI_BUS_ID, or name GPUs by UUID"),
    ],
)
def test_names_that_mean_no_gpu_for_sure_are_reported(
    visible: str, order: str | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    if order is not None:
        monkeypatch.setenv("CUDA_DEVICE_ORDER", order)
    with pytest.raises(GpuError, match=message):
        visible_gpus()


def test_a_uuid_means_the_same_in_every_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", UUIDS[2])
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    with acquire_gpus(1) as lease:
        assert lease.variables == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "2"}
