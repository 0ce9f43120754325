"""GPU leases: a job gets as many GPUs as it needs, of those that it may use, and none that another job has.

Snakemake only counts GPUs, and a second Snakemake on the machine counts for itself. So each GPU has a lock file in a
folder that all users of the machine share. A lock lasts until every process that has the file open is gone, however
it ends. A server's supervisor gets it too: the GPU of a run that was killed stays taken until its server has ended.
Of the free GPUs a job gets those that are connected best.
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
from . import topology

log = logging.getLogger(__name__)
LOCKS = Path("/tmp/rllm-serving-gpus")
"""A fixed folder, not TMPDIR: jobs with different ones must find the same locks."""
GPU_WAIT_TIMEOUT_S = 60.0
"""Longer than the server of a run that was killed takes to end."""
DEVICE_ORDER = "PCI_BUS_ID"
"""CUDA's default order, fastest first, does not define the order of equal GPUs. In PCI bus order, which NVML and
nvidia-smi use too, a number means the same GPU to every program."""
MIG_REFUSED = (
    "slices of GPUs are not used, because neither engine has been tried on one here; ask for whole GPUs "
    "(`nvidia-smi -mig 0` undivides one), or with Slurm for another type (`gpu_model`)"
)


class GpuError(UserError):
    """A job cannot have its GPUs."""


@dataclass(frozen=True)
class Gpu:
    """A GPU.

    Attributes:
        uuid: NVML's UUID.
        token: what CUDA_VISIBLE_DEVICES calls it.
        name: the product's name.
    """

    uuid: str
    token: str
    name: str


@dataclass(frozen=True)
class GpuLease:
    """GPUs that belong to one job.

    Attributes:
        gpus: the GPUs.
        locks: file descriptors of their locks; the GPUs stay taken while any process keeps these open.
    """

    gpus: tuple[Gpu, ...] = ()
    locks: tuple[int, ...] = ()

    @property
    def uuids(self) -> tuple[str, ...]:
        """NVML's UUIDs of the GPUs."""
        return tuple(gpu.uuid for gpu in self.gpus)

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables that show a program these GPUs alone; none where there are no GPUs."""
        if not self.gpus:
            return {}
        return {"CUDA_DEVICE_ORDER": DEVICE_ORDER, "CUDA_VISIBLE_DEVICES": ",".join(gpu.token for gpu in self.gpus)}


NO_GPUS = GpuLease()


def check_granted(job: str, need: int, granted: int) -> None:
    """Raise GpuError when a job was granted fewer GPUs than it needs (Snakemake caps requests silently)."""
    if granted < need:
        raise GpuError(
            f"{job}: too few GPUs: {need} needed, {granted} granted; call snakemake with --resources gpu={need} or more"
        )


def visible_gpus() -> list[Gpu]:
    """List the GPUs that this process may use: those of CUDA_VISIBLE_DEVICES in its order, else all of NVML's.

    The token of a whole GPU is its number, whatever CUDA_VISIBLE_DEVICES called it: SGLang 0.5.15 reads only numbers
    where it has several GPUs. GPUs in MIG mode are left out, and their slices refused: engines have failed on their
    names, and nobody has tried these.

    Raises:
        GpuError: without a driver, for names that are no GPU, for MIG slices, and where all GPUs are divided.
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
        if not whole and pynvml.nvmlDeviceGetCount():
            raise GpuError(f"all GPUs here are divided (MIG mode): {MIG_REFUSED}")
        return list(whole.values())
    tokens = [token.strip() for token in visible.split(",") if token.strip()]
    if any(map(str.isdecimal, tokens)) and os.environ.get("CUDA_DEVICE_ORDER", DEVICE_ORDER) != DEVICE_ORDER:
        raise GpuError(
            f"CUDA_VISIBLE_DEVICES={visible} has numbers, and by CUDA_DEVICE_ORDER={os.environ['CUDA_DEVICE_ORDER']} "
            f"only CUDA knows which GPUs they are: set CUDA_DEVICE_ORDER={DEVICE_ORDER}, or name GPUs by UUID"
        )
    return list(dict.fromkeys(_gpu_named(token, whole) for token in tokens))


def _undivided_gpus(nvml: Any) -> dict[int, Gpu]:
    """Map CUDA's numbers to the GPUs that are not in MIG mode.

    NVML also counts GPUs that a scheduler withholds from this process; CUDA skips them in its numbering.
    """
    handles = []
    for index in range(nvml.nvmlDeviceGetCount()):
        with contextlib.suppress(nvml.NVMLError):
            handles.append(nvml.nvmlDeviceGetHandleByIndex(index))
    gpus = {}
    for number, handle in enumerate(handles):
        divided = False
        with contextlib.suppress(nvml.NVMLError):  # most GPUs have no MIG mode: asking for it is an error
            divided = bool(nvml.nvmlDeviceGetMigMode(handle)[0])
        if not divided:
            gpus[number] = Gpu(nvml.nvmlDeviceGetUUID(handle), str(number), nvml.nvmlDeviceGetName(handle))
    return gpus


def _gpu_named(token: str, whole: dict[int, Gpu]) -> Gpu:
    """Resolve a word of CUDA_VISIBLE_DEVICES: a number, a UUID or its beginning."""
    if token.isdecimal() and int(token) in whole:
        return whole[int(token)]
    matches = [gpu for gpu in whole.values() if token.startswith("GPU-") and gpu.uuid.startswith(token)]
    if len(matches) == 1:
        return matches[0]
    if token.startswith("MIG-"):
        raise GpuError(f"CUDA_VISIBLE_DEVICES names the MIG slice '{token}': {MIG_REFUSED}")
    known = ", ".join(f"{gpu.token} = {gpu.uuid}" for gpu in whole.values()) or "no whole GPU"
    raise GpuError(
        f"CUDA_VISIBLE_DEVICES names '{token}', which is no GPU here: there is {known}; GPUs in MIG mode do not count"
    )


@contextmanager
def acquire_gpus(count: int, timeout_s: float = GPU_WAIT_TIMEOUT_S) -> Iterator[GpuLease]:
    """Lease exactly `count` of `visible_gpus` while the context is open.

    Args:
        count: how many GPUs; for 0 the driver is not asked at all.
        timeout_s: how long to wait for GPUs that other jobs have.

    Raises:
        GpuError: when there are too few, or too few become free in time.
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
    deadline, waits = time.monotonic() + timeout_s, False
    while True:
        with ExitStack() as open_locks:
            locked = _lock_free_gpus(gpus, count, open_locks)
            if len(locked) == count:
                yield GpuLease(tuple(locked), tuple(locked.values()))
                return
        # The locks were released before waiting: otherwise two jobs could wait for each other's GPUs forever.
        if time.monotonic() >= deadline:
            raise GpuError(
                f"too few GPUs: {count} needed, {len(locked)} of {len(gpus)} free; {_describe_holders(gpus, locked)}. "
                "Wait for those jobs or end them; give each workflow on this machine GPUs of its own by "
                "CUDA_VISIBLE_DEVICES, and let --resources gpu=N be their number"
            )
        if not waits:
            log.info(
                "waiting for GPUs, %.0f s at most: %d needed; %s", timeout_s, count, _describe_holders(gpus, locked)
            )
            waits = True
        time.sleep(0.5)


def _lock_free_gpus(gpus: Sequence[Gpu], count: int, open_locks: ExitStack) -> dict[Gpu, int]:
    """Lock the `count` free GPUs that are connected best, or all where there are fewer.

    Returns the descriptors of their locks, which `open_locks` closes.
    """
    free: dict[Gpu, int] = {}
    for gpu in gpus:
        # One GPU is as good as another.
        if count > 1 or not free:
            descriptor = _open_lock(gpu)
            open_locks.callback(os.close, descriptor)
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # If the file was unlinked meanwhile, this lock excludes nobody: the GPU is tried again later.
                if os.fstat(descriptor).st_nlink:
                    free[gpu] = descriptor
    chosen = topology.closest([gpu.uuid for gpu in free], count)
    for gpu in [gpu for gpu in free if gpu.uuid not in chosen]:
        fcntl.flock(free.pop(gpu), fcntl.LOCK_UN)
    return free


def _lock_file(gpu: Gpu) -> Path:
    return LOCKS / f"{gpu.uuid.replace('/', '-')}.lock"


def _open_lock(gpu: Gpu) -> int:
    """Open a GPU's lock file, creating it if need be. Locking it needs no right to write to it."""
    umask = os.umask(0)
    try:
        with contextlib.suppress(FileExistsError):
            LOCKS.mkdir(mode=0o1777)
        # Created and opened in two steps: the system may refuse O_CREAT for a file that another user has created.
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


def _describe_holders(gpus: Sequence[Gpu], locked: dict[Gpu, int]) -> str:
    """Say which process holds each of the GPUs that are not `locked`, as far as this process may know."""
    pid_by_inode: dict[int, int] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/locks").read_text().splitlines():
            _, kind, *_, pid, file, _, _ = line.split()
            if kind == "FLOCK":
                pid_by_inode[int(file.rpartition(":")[2])] = int(pid)
    descriptions = []
    for gpu in gpus:
        if gpu not in locked:
            holder = "a job that was killed and whose server is ending, or one of another container"
            with contextlib.suppress(OSError, KeyError, psutil.Error):
                process = psutil.Process(pid_by_inode[_lock_file(gpu).stat().st_ino])
                holder = f"process {process.pid} of {process.username()}"
            descriptions.append(f"GPU {gpu.token} ({gpu.name}, {gpu.uuid}) is held by {holder}")
    return "; ".join(descriptions)
