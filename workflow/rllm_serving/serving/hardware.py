"""What a number was measured on: processor, memory, GPUs, driver, operating system, and the commit of this code."""

from __future__ import annotations

import contextlib
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from . import topology
from .capability import Capability

CPU_WITHOUT_AVX512 = "cpu without AVX-512"


def describe(gpu_uuids: Sequence[str] = ()) -> dict[str, Any]:
    """Describe this machine; `driver` is None where there is no NVIDIA driver.

    Args:
        gpu_uuids: UUIDs of the GPUs that were measured: `gpus` has these, with their compute capability,
            `gpus_in_machine` counts the others too. `gpu_links` says how each two of them are connected, by their
            places in `gpus`.
    """
    gpus: list[dict[str, Any]] = []
    driver, count = None, 0
    with contextlib.suppress(Exception):  # NVML raises its own errors, and OSError without a driver library
        import pynvml

        pynvml.nvmlInit()
        driver = pynvml.nvmlSystemGetDriverVersion()
        count = pynvml.nvmlDeviceGetCount()
        for uuid in gpu_uuids:
            handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
            memory = pynvml.nvmlDeviceGetMemoryInfo(handle).total
            facts = {"name": pynvml.nvmlDeviceGetName(handle), "uuid": uuid, "memory_bytes": memory}
            gpus.append(facts | {"capability": Capability.of(pynvml, handle).name})
    return {
        "cpu": _cpuinfo("model name") or platform.processor() or platform.machine(),
        "cores": psutil.cpu_count(logical=True),
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": gpus,
        "gpu_links": [
            {"gpus": [gpu_uuids.index(uuid) for uuid in pair], "link": link}
            for pair, link in topology.links(gpu_uuids).items()
        ],
        "gpus_in_machine": count,
        "driver": driver,
        "system": platform.platform(),
    }


def platform_tags(device: str) -> tuple[str, ...]:
    """The device and, for servers on the CPU, what this machine's CPU lacks: engines refuse options by these tags."""
    return (device, CPU_WITHOUT_AVX512) if device == "cpu" and "avx512f" not in _cpuinfo("flags").split() else (device,)


def comparable_kind(description: Mapping[str, Any]) -> tuple[str, ...]:
    """The CPU model, the sorted GPU names and their slowest link: numbers are comparable where these are equal."""
    slowest = topology.farthest([pair["link"] for pair in description.get("gpu_links", [])])
    names = sorted(gpu["name"] for gpu in description["gpus"])
    return str(description["cpu"]), *names, *([slowest] if slowest else [])


def _cpuinfo(name: str) -> str:
    """The value of a line of /proc/cpuinfo about the first processor; empty where there is none."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(name):
                return line.partition(":")[2].strip()
    return ""


def git_commit(folder: Path) -> str | None:
    """Commit of the checkout that holds `folder`, with "-dirty" when tracked files differ; None without git."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
