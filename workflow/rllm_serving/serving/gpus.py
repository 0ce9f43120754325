"""Which GPUs a job uses: as many as it needs, of those that it may use, and none that another job holds.

Snakemake only counts GPUs, and a second Snakemake on the machine counts for itself. Which GPUs are free is settled by a
lock file a GPU, in a folder that all users of the machine share. A lock lasts until every process that has the file
open is gone, however it ends: so a server's guard gets it too, and the GPU of a run that was killed stays taken until
its server has ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from ..errors import UserError

log = logging.getLogger(__name__)
LOCKS = Path("/tmp/rllm-serving-gpus")
"""Not where TMPDIR points to: jobs that have different ones must find the same locks."""
GPU_WAIT_TIMEOUT_S = 60.0
"""Longer than the server of a run that was killed takes to end."""
DEVICE_ORDER = "PCI_BUS_ID"
"""CUDA's own order of GPUs, the fastest first, leaves open which of several equal ones has which number. By the PCI
bus, as NVML and nvidia-smi count, a number means the same GPU to everyone."""


class GpuError(UserError):
    """A job that cannot have its GPUs; the message says why and what to do."""


@dataclass(frozen=True)
class Gpu:
    """A GPU, or a MIG slice of one. token: what CUDA_VISIBLE_DEVICES calls it; name: its product's."""

    uuid: str
    token: str
    name: str


@dataclass(frozen=True)
class GpuLease:
    """GPUs that belong to one job; no GPUs unless some are given.

    locks: file descriptors. A process that keeps them open keeps the GPUs, whoever else ends.
    """

    gpus: tuple[Gpu, ...] = ()
    locks: tuple[int, ...] = ()

    @property
    def uuids(self) -> tuple[str, ...]:
        """The GPUs as NVML finds them again."""
        return tuple(gpu.uuid for gpu in self.gpus)

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables that show a program these GPUs alone; none where there are no GPUs."""
        if not self.gpus:
            return {}
        return {"CUDA_DEVICE_ORDER": DEVICE_ORDER, "CUDA_VISIBLE_DEVICES": ",".join(gpu.token for gpu in self.gpus)}


NO_GPUS = GpuLease()


def check_granted(job: str, need: int, granted: int) -> None:
    """Raise AllotmentError when a job was granted fewer GPUs than it needs (Snakemake caps requests silently)."""
    if granted < need:
        raise GpuError(
            f"{job}: too few GPUs: {need} needed, {granted} granted; call snakemake with --resources gpu={need} or more"
        )


def visible_gpus() -> list[Gpu]:
    """GPUs that this process may use: those of CUDA_VISIBLE_DEVICES in its order, else all that NVML lists.

    Whole GPUs get their number as token, however they were named: SGLang 0.5.15 reads nothing else where it has
    several. GPUs in MIG mode are used by their slices (MIG-...), which CUDA_VISIBLE_DEVICES must name. Raises
    AllotmentError without a driver, and for names that are no GPU.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
        whole = _undivided_gpus(pynvml)
    except pynvml.NVMLError as error:
        raise GpuError(
            f"no NVIDIA GPU can be used here ({error}): set device: cpu, or run where there is one"
        ) from None
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return list(whole.values())
    tokens = [token.strip() for token in visible.split(",") if token.strip()]
    if any(map(str.isdecimal, tokens)) and os.environ.get("CUDA_DEVICE_ORDER", DEVICE_ORDER) != DEVICE_ORDER:
        raise GpuError(
            f"CUDA_VISIBLE_DEVICES={visible} has numbers, and by CUDA_DEVICE_ORDER={os.environ['CUDA_DEVICE_ORDER']} "
            f"nobody but CUDA knows which GPUs they are: set CUDA_DEVICE_ORDER={DEVICE_ORDER}, or name GPUs by UUID"
        )
    found = [_gpu_named(pynvml, token, whole) for token in tokens]
    return list(dict.fromkeys(found))


def _undivided_gpus(nvml: Any) -> dict[int, Gpu]:
    """CUDA's number -> GPU, of GPUs that are not divided.

    NVML also counts what a scheduler keeps from this process; CUDA does not, and numbers the others.
    """
    handles = []
    for index in range(nvml.nvmlDeviceGetCount()):
        with contextlib.suppress(nvml.NVMLError):
            handles.append(nvml.nvmlDeviceGetHandleByIndex(index))
    found = {}
    for number, handle in enumerate(handles):
        divided = False
        with contextlib.suppress(nvml.NVMLError):  # most GPUs cannot be divided, and say so by an error
            divided = bool(nvml.nvmlDeviceGetMigMode(handle)[0])
        if not divided:
            found[number] = Gpu(nvml.nvmlDeviceGetUUID(handle), str(number), nvml.nvmlDeviceGetName(handle))
    return found


def _gpu_named(nvml: Any, token: str, whole: dict[int, Gpu]) -> Gpu:
    """The GPU that a word of CUDA_VISIBLE_DEVICES means: a number, a UUID or its beginning, a MIG slice."""
    if token.isdecimal() and int(token) in whole:
        return whole[int(token)]
    meant = [gpu for gpu in whole.values() if token.startswith("GPU-") and gpu.uuid.startswith(token)]
    if len(meant) == 1:
        return meant[0]
    if token.startswith("MIG-"):
        with contextlib.suppress(nvml.NVMLError):
            handle = nvml.nvmlDeviceGetHandleByUUID(token)
            return Gpu(nvml.nvmlDeviceGetUUID(handle), token, nvml.nvmlDeviceGetName(handle))
    seen = ", ".join(f"{gpu.token} = {gpu.uuid}" for gpu in whole.values()) or "no whole GPU"
    raise GpuError(
        f"CUDA_VISIBLE_DEVICES names '{token}', which is no GPU here: there is {seen}; "
        "GPUs in MIG mode are named by their slices (MIG-...)"
    )


@contextmanager
def acquire_gpus(count: int, patience_s: float = GPU_WAIT_TIMEOUT_S) -> Iterator[GpuLease]:
    """Hold exactly `count` GPUs of `visible_gpus` while the context is open; nothing is looked at for 0.

    GPUs that other jobs hold are waited for, `patience_s` at most. Raises AllotmentError when there are too few, or
    too few get free.
    """
    if count == 0:
        yield NO_GPUS
        return
    gpus = visible_gpus()
    if len(gpus) < count:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        allowed = "" if visible is None else f" (CUDA_VISIBLE_DEVICES={visible})"
        raise GpuError(
            f"too few GPUs: {count} needed, {len(gpus)} can be used here{allowed}; "
            "lower serving.tensor_parallel, or run where there are more"
        )
    deadline, waits = time.monotonic() + patience_s, False
    while True:
        with ExitStack() as held:
            taken = _lock_free_gpus(gpus, count, held)
            if len(taken) == count:
                yield GpuLease(tuple(taken), tuple(taken.values()))
                return
        # Those that were free are given back before waiting: two jobs must not wait for each other's.
        if time.monotonic() >= deadline:
            raise GpuError(
                f"too few GPUs: {count} needed, {len(taken)} of {len(gpus)} free; {_describe_holders(gpus, taken)}. "
                "Wait for those jobs or end them; give each workflow on this machine GPUs of its own by "
                "CUDA_VISIBLE_DEVICES, and let --resources gpu=N be their number"
            )
        if not waits:
            log.info(
                "waiting for GPUs, %.0f s at most: %d needed; %s", patience_s, count, _describe_holders(gpus, taken)
            )
            waits = True
        time.sleep(0.5)


def _lock_free_gpus(gpus: Sequence[Gpu], count: int, held: ExitStack) -> dict[Gpu, int]:
    """Lock up to `count` GPUs that nobody holds; their descriptors are closed with `held`."""
    taken: dict[Gpu, int] = {}
    for gpu in gpus:
        if len(taken) < count:
            descriptor = _open_lock(gpu)
            held.callback(os.close, descriptor)
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # A file that was cleared away meanwhile is nobody else's lock.
                if os.fstat(descriptor).st_nlink:
                    taken[gpu] = descriptor
    return taken


def _lock_file(gpu: Gpu) -> Path:
    return LOCKS / f"{gpu.uuid.replace('/', '-')}.lock"


def _open_lock(gpu: Gpu) -> int:
    """Open a GPU's lock file, which whoever comes first makes. To lock it nobody needs the right to write to it."""
    umask = os.umask(0)
    try:
        with contextlib.suppress(FileExistsError):
            LOCKS.mkdir(mode=0o1777)
        # Made and opened in two steps: the system may refuse to open by O_CREAT what another user has made there.
        with contextlib.suppress(FileExistsError):
            return os.open(_lock_file(gpu), os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o444)
        return os.open(_lock_file(gpu), os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        raise GpuError(
            f"the lock of GPU {gpu.token} cannot be opened ({error}): let all users of this machine read and write "
            f"in {LOCKS}, or remove it while no job uses a GPU"
        ) from None
    finally:
        os.umask(umask)


def _describe_holders(gpus: Sequence[Gpu], mine: dict[Gpu, int]) -> str:
    """Who holds the GPUs that are not `mine`, as far as this process may know."""
    takers: dict[int, int] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/locks").read_text().splitlines():
            _, kind, *_, pid, place, _, _ = line.split()
            if kind == "FLOCK":
                takers[int(place.rpartition(":")[2])] = int(pid)
    told = []
    for gpu in gpus:
        if gpu not in mine:
            holder = "a job that was killed and whose server is ending, or one of another container"
            with contextlib.suppress(OSError, KeyError, psutil.Error):
                process = psutil.Process(takers[_lock_file(gpu).stat().st_ino])
                holder = f"process {process.pid} of {process.username()}"
            told.append(f"GPU {gpu.token} ({gpu.name}, {gpu.uuid}) is held by {holder}")
    return "; ".join(told)
