"""Whether this machine can do a study, or the jobs of one call of it, before anything is fetched."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from ..errors import UserError
from ..models import hub_access
from ..serving.capability import OLDEST, notes, refusal
from ..serving.engines import Options
from ..serving.machine import COMPILERS, DRIVERS, Machine, disk_of, older, this_machine
from ..serving.memory import GIB, GpuMemoryError, common_pool
from .quantization_memory import fewest_gpus

SIZES = (16, 24, 32, 40, 48, 80, 96, 141, 180, 288)
"""GiB of the GPUs that there are, about: what a server needs is told as the smallest of them."""
Needs = Mapping[str, Any]
"""What `requirements.requirements` returns."""
Access = Callable[[str, str], str | None]
"""Asks the hub for an id and its kind; returns why it cannot be had, or None."""


class MachineError(UserError):
    """This machine cannot do the study; the message has a line for each reason."""


@dataclass(frozen=True)
class Findings:
    """What was found.

    Attributes:
        problems: what is to be mended first, a line each.
        notes: what is good to know.
    """

    problems: tuple[str, ...]
    notes: tuple[str, ...]

    def raise_problems(self) -> None:
        """Raise MachineError with all problems, if there are any."""
        if self.problems:
            lines = "\n".join(f"- {problem}" for problem in self.problems)
            raise MachineError(f"this machine cannot do the study; nothing was fetched:\n{lines}")


def look(
    needs: Needs, resources: Path, serves_here: bool, access: Access = hub_access.refusal
) -> tuple[Machine, Findings]:
    """Look at the machine that this process runs on, and check it; arguments as of `check`."""
    from huggingface_hub.constants import HF_HUB_CACHE  # only where a machine is checked: Snakemake imports this module

    machine = this_machine()
    return machine, check(needs, machine, resources, Path(HF_HUB_CACHE), access, serves_here)


def check(
    needs: Needs, machine: Machine, resources: Path, hub_cache: Path, access: Access, serves_here: bool
) -> Findings:
    """Compare what a study needs with what there is.

    Args:
        needs: what it needs.
        machine: what there is.
        resources: folder of environments, models and question sets.
        hub_cache: folder of the hub's cache.
        access: asks the hub.
        serves_here: whether GPU jobs run on this machine; a machine that only fetches may have no GPU.
    """
    problems, told = list(_disk(needs, resources, hub_cache)), list[str]()
    problems += _gated(needs, resources, access)
    if machine.compiler is None:
        problems.append(f"no C++ compiler ({' or '.join(COMPILERS)}): install it (Debian, Ubuntu: `apt install g++`)")
    if needs["gpus"] and machine.gpus:
        problems += [*_driver(needs, machine), *_gpus(needs, machine)]
        methods = {row["method"] for row in needs["servers"]}
        formats = {row["options"]["kv_cache_dtype"] for row in needs["servers"]}
        told += notes(min(gpu.capability for gpu in machine.gpus), methods, formats)
    elif needs["gpus"] and serves_here:
        problems.append(
            f"{machine.no_gpus}. A machine that only fetches: `snakemake prepare --until build_environment fetch_model "
            "load_dataset train_model`"
        )
    elif needs["gpus"]:
        told.append(f"no GPU was looked at: jobs that need one check it where they run ({machine.no_gpus})")
    return Findings(tuple(problems), tuple(told))


def _driver(needs: Needs, machine: Machine) -> Iterator[str]:
    for version, environments in needs["cuda"].items():
        oldest = DRIVERS.get(int(version.partition(".")[0]))
        if oldest is None:
            yield f"CUDA {version} of {', '.join(environments)}: the driver that it needs is not known to this version"
        elif machine.driver and older(machine.driver, oldest):
            shown = ".".join(map(str, oldest))
            yield (
                f"NVIDIA driver {machine.driver} is too old: CUDA {version} of {', '.join(environments)} needs {shown} "
                "or later; update the driver"
            )


def _gpus(needs: Needs, machine: Machine) -> Iterator[str]:
    weakest = min(gpu.capability for gpu in machine.gpus)
    smallest = min(gpu.memory_bytes for gpu in machine.gpus)
    if weakest < OLDEST:
        yield f"{machine.gpus[0].name} ({weakest.name}) has no bfloat16: {OLDEST.name} (A100) or later is needed"
    for row in needs["servers"]:
        for engine in row["engines"]:
            if reason := refusal(weakest, engine, row["method"]):
                yield f"{_label(row)}: {engine} cannot serve {reason}; take it out of the experiments' quantizations"
        parallel = row["options"]["tensor_parallel"]
        if parallel > len(machine.gpus):
            yield (
                f"{_label(row)}: {parallel} GPUs needed, {len(machine.gpus)} can be used here; lower "
                "serving.tensor_parallel (also in models.NAME.serving and experiments.NAME.serving)"
            )
        try:
            pool_of(row, smallest)
        except GpuMemoryError as error:
            yield f"{_label(row)}{' (estimated)' * row['estimated']}: {error}"
    for row in needs["quantizing"]:
        fewest = _fewest(row, smallest)
        if fewest is not None and fewest > min(row["gpus"], len(machine.gpus)):
            yield (
                f"quantizing {row['model']}: {fewest} GPUs of {smallest / GIB:.0f} GiB needed to hold it in bf16, it "
                f"asks for {row['gpus']} of {len(machine.gpus)}; raise models.{row['model']}.serving.tensor_parallel, "
                "name ready-made checkpoints (quantizations.NAME.checkpoints), or leave its formats out"
            )


def _label(row: Mapping[str, Any]) -> str:
    return f"{row['server']} ({', '.join(row['setups'])})"


def pool_of(row: Mapping[str, Any], gpu_bytes: int) -> int | None:
    """Tokens of the KV pool of a server on such GPUs; None where its size is not known.

    Raises:
        GpuMemoryError: when it does not fit.
    """
    if row["weight_bytes"] is None or row["token_bytes"] is None:
        return None
    return common_pool(gpu_bytes, row["weight_bytes"], row["token_bytes"], Options(**row["options"])).tokens


def _fewest(row: Mapping[str, Any], gpu_bytes: int) -> int | None:
    known = row["weight_bytes"] is not None
    return fewest_gpus(row["weight_bytes"], row["token_bytes"] or 0, gpu_bytes) if known else None


def _disk(needs: Needs, resources: Path, hub_cache: Path) -> Iterator[str]:
    """Of each file system: whether what is still to be written fits."""
    wanted: dict[int, list[tuple[str, float, Path]]] = {}
    for row in needs["files"]:
        folder = hub_cache if row["hub"] else resources
        size = (row["bytes"] or 0.0) - (_cached(hub_cache, row["hub"]) if row["hub"] else 0)
        if not (resources / row["record"]).exists() and size > 0:
            wanted.setdefault(disk_of(folder).device, []).append((row["what"], size, folder))
    for things in wanted.values():
        total, free = sum(size for _, size, _ in things), disk_of(things[0][2]).free_bytes
        if total > free:
            largest = ", ".join(f"{what} {size / 1e9:.0f}" for what, size, _ in sorted(things, key=lambda t: -t[1])[:4])
            folders = " and ".join(sorted({str(folder.absolute()) for _, _, folder in things}))
            yield (
                f"disk of {folders}: {total / 1e9:.0f} GB to be written, {free / 1e9:.0f} free (largest: {largest}); "
                "make room, point HF_HOME to another disk, or leave models out"
            )


def _cached(hub_cache: Path, repository: str) -> int:
    """Bytes of a repository that the hub's cache has already."""
    blobs = hub_cache / f"models--{repository.replace('/', '--')}" / "blobs"
    return sum(file.stat().st_size for file in blobs.iterdir() if file.is_file()) if blobs.is_dir() else 0


def _gated(needs: Needs, resources: Path, access: Access) -> Iterator[str]:
    token = bool(os.environ.get("HF_TOKEN"))
    for row in needs["gated"]:
        if (resources / row["record"]).exists():
            continue
        if row["known"] and not token and os.environ.get("HF_HUB_OFFLINE", "") in ("", "0"):
            yield f"{row['kind']} {row['id']} is gated and HF_TOKEN is not set: accept its terms, then export HF_TOKEN"
        elif reason := access(row["id"], row["kind"]):
            yield f"{row['kind']} {row['id']}: {reason}"


def text(needs: Needs, machine: Machine, findings: Findings) -> str:
    """Tell what the servers of each model need of each GPU at most, and what was found here, for people."""
    here = min((gpu.memory_bytes for gpu in machine.gpus), default=None)
    groups: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for row in needs["servers"]:
        groups.setdefault((row["server"].partition(" ")[0], row["options"]["tensor_parallel"]), []).append(row)
    rows = []
    for (model, parallel), servers in groups.items():
        weights = [None if row["weight_bytes"] is None else row["weight_bytes"] / GIB for row in servers]
        largest = "?" if None in weights else f"{max(map(float, filter(None, weights))):.1f}"
        # Of those that do not fit here the check has a line each.
        pools = [pool for row in servers if here and (pool := _pool(row, here)) is not None]
        least, fewest = max(map(_smallest, servers)), f"{min(pools):,}" if pools else ""
        rows.append([f"serving {model}", parallel, largest, least or "?", fewest])
    for row in needs["quantizing"]:
        size = "?" if row["weight_bytes"] is None else f"{row['weight_bytes'] / row['gpus'] / GIB:.1f}"
        rows.append([f"quantizing {row['model']}", row["gpus"], size, _smallest_to_quantize(row) or "?", ""])
    head = ("on GPUs", "GPUs", "GiB of weights, each", "GiB at least, each", "KV pool here, tokens")
    align = ("left", *["right"] * 4)
    parts = [tabulate(rows, head, "simple", colalign=align, disable_numparse=True)] if rows else []
    kind = f"{len(machine.gpus)} x {machine.gpus[0].name}, driver {machine.driver}" if machine.gpus else machine.no_gpus
    lines = [f"here: {kind}"] if needs["gpus"] else []
    lines += [f"to mend: {problem}" for problem in findings.problems] + [f"note: {note}" for note in findings.notes]
    return "\n\n".join([*parts, "\n".join(lines)] if lines else parts)


def _pool(row: Mapping[str, Any], gpu_bytes: int) -> int | None:
    try:
        return pool_of(row, gpu_bytes)
    except GpuMemoryError:
        return None


def _smallest(row: Mapping[str, Any]) -> int:
    """GiB of the smallest of SIZES on which a server fits; 0 where its size is not known, or none is enough."""
    return next((size for size in SIZES if _pool(row, size * GIB) is not None), 0)


def _smallest_to_quantize(row: Mapping[str, Any]) -> int:
    return next((size for size in SIZES if (_fewest(row, size * GIB) or math.inf) <= row["gpus"]), 0)
