"""Which GPUs a server gets: those that are connected best among the free ones."""

from __future__ import annotations

import sys

import pytest
from helpers.fake_nvml import UUIDS, Nvml
from rllm_serving.serving import topology
from rllm_serving.serving.gpus import acquire_gpus
from rllm_serving.serving.hardware import comparable_kind, describe

pytestmark = pytest.mark.usefixtures("machine")
BRIDGES = ((0, 5), (1, 4), (2, 3))


@pytest.mark.parametrize(
    ("machine_of", "free", "count", "chosen"),
    [
        # NVLink comes before a common NUMA node, and a common node before none.
        (Nvml(8, nvlinked=BRIDGES), range(8), 2, [0, 5]),
        (Nvml(8, nvlinked=BRIDGES), (0, 1, 2, 6, 7), 2, [0, 1]),
        (Nvml(8, nvlinked=BRIDGES), (3, 4, 6, 1), 2, [4, 1]),
        (Nvml(8), (1, 5, 6), 2, [5, 6]),
        # The slowest link decides, then all of them.
        (Nvml(8), (3, 4, 5, 6, 7), 4, [4, 5, 6, 7]),
        (Nvml(8, nvlinked=((1, 2, 3, 6),)), range(8), 4, [1, 2, 3, 6]),
        # All are equal: the first.
        (Nvml(4, nvlinked=((0, 1, 2, 3),)), (2, 1, 0, 3), 2, [2, 1]),
        (Nvml(4), (2, 0), 1, [2]),
        (Nvml(4), (2, 0), 2, [2, 0]),
        (Nvml(4), (2,), 2, [2]),
    ],
)
def test_the_closest_gpus_are_chosen(
    machine_of: Nvml, free: range | tuple[int, ...], count: int, chosen: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", machine_of)
    assert topology.closest([UUIDS[index] for index in free], count) == [UUIDS[index] for index in chosen]


def test_a_job_gets_the_closest_of_the_free_gpus_and_the_others_stay_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(8, nvlinked=BRIDGES))
    with acquire_gpus(2) as first, acquire_gpus(2) as second, acquire_gpus(1) as third, acquire_gpus(3) as last:
        assert [lease.uuids for lease in (first, second)] == [(UUIDS[0], UUIDS[5]), (UUIDS[1], UUIDS[4])]
        assert third.uuids == (UUIDS[2],) and last.uuids == (UUIDS[3], UUIDS[6], UUIDS[7])


def test_how_they_are_connected_is_recorded_and_makes_numbers_incomparable(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = []
    for linked in ((), ((0, 1),)):
        monkeypatch.setitem(sys.modules, "pynvml", Nvml(4, nvlinked=linked))
        description = describe(UUIDS[:2])
        kinds.append(comparable_kind(description))
        assert description["gpu_links"] == [{"gpus": [0, 1], "link": "NVLink" if linked else "one NUMA node"}]
    assert kinds[0] != kinds[1]
    far = describe([UUIDS[0], UUIDS[1], UUIDS[2]])
    assert [pair["link"] for pair in far["gpu_links"]] == ["NVLink", "one NUMA node", "one NUMA node"]
    assert comparable_kind(far)[-1] == "one NUMA node"
    assert comparable_kind({"cpu": "c", "gpus": [{"name": "g"}]}) == ("c", "g")


def test_a_driver_that_does_not_tell_gives_the_first_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = Nvml(4)
    monkeypatch.setattr(silent, "nvmlDeviceGetTopologyCommonAncestor", silent.nvmlDeviceGetPowerUsage, raising=False)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert topology.links(UUIDS[:2]) == {(UUIDS[0], UUIDS[1]): topology.UNKNOWN}
    assert topology.closest(UUIDS[:4], 2) == UUIDS[:2]
