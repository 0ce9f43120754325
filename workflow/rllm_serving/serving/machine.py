"""What there is on this machine, for the check that comes before anything is fetched: driver, GPUs, disk, compiler."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .capability import Capability
from .gpus import GpuError, visible_gpus

DRIVERS: Mapping[int, tuple[int, ...]] = {11: (450, 80, 2), 12: (525, 60, 13), 13: (580,)}
"""Major version of CUDA -> the oldest driver that its programs run with, as NVIDIA's release notes have it."""
COMPILERS = ("g++", "c++")
"""One of these is needed: both engines compile kernels when they first use them."""


@dataclass(frozen=True)
class MachineGpu:
    """A GPU that jobs may use.

    Attributes:
        name: the product's name.
        memory_bytes: all of its memory.
        capability: its compute capability.
    """

    name: str
    memory_bytes: int
    capability: Capability


@dataclass(frozen=True)
class Machine:
    """What jobs find here.

    Attributes:
        driver: version of NVIDIA's driver; None without one.
        gpus: GPUs that jobs may use.
        no_gpus: why there are none, in words; empty where there are.
        compiler: path of the C++ compiler; None without one.
    """

    driver: str | None
    gpus: tuple[MachineGpu, ...]
    no_gpus: str
    compiler: str | None

    def describe(self) -> dict[str, Any]:
        """Plain JSON values, the capability by name."""
        gpus = [{**asdict(gpu), "capability": gpu.capability.name} for gpu in self.gpus]
        return {"driver": self.driver, "gpus": gpus, "compiler": self.compiler}

    @property
    def kind(self) -> str:
        """Driver and GPUs in one line; empty without GPUs. What was checked holds as long as it stays the same."""
        names = [f"{gpu.name} {gpu.memory_bytes}" for gpu in self.gpus]
        return f"driver {self.driver}; {', '.join(names)}" if names else ""


def this_machine() -> Machine:
    """Look at the machine that this process runs on."""
    driver, gpus, problem = None, [], ""
    try:
        names = visible_gpus()
        import pynvml

        driver = pynvml.nvmlSystemGetDriverVersion()
        for gpu in names:
            handle = pynvml.nvmlDeviceGetHandleByUUID(gpu.uuid)
            memory = int(pynvml.nvmlDeviceGetMemoryInfo(handle).total)
            gpus.append(MachineGpu(gpu.name, memory, Capability.of(pynvml, handle)))
        problem = "" if gpus else "CUDA_VISIBLE_DEVICES names no GPU"
    except (GpuError, ImportError) as error:
        problem = str(error)
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    return Machine(driver, tuple(gpus), problem, compiler)


def older(driver: str, needed: tuple[int, ...]) -> bool:
    """Whether a driver's version ("570.133.20") comes before one that is needed."""
    return tuple(int(part) for part in driver.split(".") if part.isdecimal()) < needed


@dataclass(frozen=True)
class Disk:
    """A file system.

    Attributes:
        device: its number; two folders with the same lie on one.
        free_bytes: what this user can still write.
    """

    device: int
    free_bytes: int


def disk_of(folder: Path) -> Disk:
    """The file system that a folder lies on, or will when it is made."""
    there = folder.expanduser().absolute()
    while not there.exists():
        there = there.parent
    stats = os.statvfs(there)
    return Disk(there.stat().st_dev, stats.f_bavail * stats.f_frsize)
