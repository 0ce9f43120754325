"""What a number was measured on: processor, memory, GPUs, driver, operating system, and the commit of this code."""

from __future__ import annotations

import contextlib
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

CPU_WITHOUT_AVX512 = "cpu without AVX-512"


def describe(gpu_uuids: Sequence[str] = ()) -> dict[str, Any]:
    """Describe this machine; `driver` is None where there is no NVIDIA driver.

    Args:
        gpu_uuids: UUIDs of the GPUs that were measured: `gpus` has these, `gpus_in_machine` counts the others too.
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
            gpus.append({"name": pynvml.nvmlDeviceGetName(handle), "uuid": uuid, "memory_bytes": memory})
    return {
        "cpu": _cpuinfo("model name") or platform.processor() or platform.machine(),
        "cores": psutil.cpu_count(logical=True),
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": gpus,
        "gpus_in_machine": count,
        "driver": driver,
        "system": platform.platform(),
    }


def platform_tags(device: str) -> tuple[str, ...]:
    """The device and, for servers on the CPU, what this machine's CPU lacks: engines refuse options by these tags."""
    return (device, CPU_WITHOUT_AVX512) if device == "cpu" and "avx512f" not in _cpuinfo("flags").split() else (device,)


def comparable_kind(description: Mapping[str, Any]) -> tuple[str, ...]:
    """The CPU model and the sorted GPU names: numbers of two machines are comparable where these are equal."""
    return str(description["cpu"]), *sorted(gpu["name"] for gpu in description["gpus"])


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
