"""The energy of processors and memory, from counters that wrap around or cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest
from rllm_serving.measurement.host_energy import HostEnergy

RANGE = 1_000_000_000


def domain(root: Path, folder: str, name: str, microjoules: int) -> None:
    (root / folder).mkdir(exist_ok=True)
    for file, content in (("name", name), ("energy_uj", microjoules), ("max_energy_range_uj", RANGE)):
        (root / folder / file).write_text(f"{content}\n")


def test_packages_and_memory_are_added_and_parts_or_wholes_of_them_are_not(tmp_path: Path) -> None:
    names = {"intel-rapl:0": "package-0", "intel-rapl:1": "package-1", "intel-rapl:0:1": "dram"}
    others = {"intel-rapl:0:0": "core", "intel-rapl:2": "psys", "intel-rapl": "control", "dtpm": "package-9"}
    for folder, name in (names | others).items():
        domain(tmp_path, folder, name, 7_000_000)
    energy = HostEnergy(tmp_path)
    assert energy.read() == 0
    for folder, name in (names | others).items():
        domain(tmp_path, folder, name, 9_500_000)
    assert energy.read() == pytest.approx(3 * 2.5)


def test_a_counter_that_wraps_around_goes_on(tmp_path: Path) -> None:
    domain(tmp_path, "intel-rapl:0", "package-0", RANGE - 3_000_000)
    energy = HostEnergy(tmp_path)
    assert energy.read() == 0
    domain(tmp_path, "intel-rapl:0", "package-0", 2_000_000)
    assert energy.read() == pytest.approx(5)
    domain(tmp_path, "intel-rapl:0", "package-0", 4_000_000)
    assert energy.read() == pytest.approx(7)


def test_what_cannot_be_read_is_unknown_and_its_gain_is_not_lost(tmp_path: Path) -> None:
    assert HostEnergy(tmp_path).read() is None and HostEnergy(tmp_path / "nowhere").read() is None
    domain(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
    energy = HostEnergy(tmp_path)
    assert energy.read() == 0
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("")
    assert energy.read() is None
    domain(tmp_path, "intel-rapl:0", "package-0", 4_000_000)
    assert energy.read() == pytest.approx(3)
