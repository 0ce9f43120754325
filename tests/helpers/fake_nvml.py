"""A stand-in for pynvml: a machine with some GPUs of one kind."""

from __future__ import annotations

from types import SimpleNamespace

UUIDS = [f"GPU-{i}{i}{i}{i}-uuid" for i in range(8)]
SLICE = "MIG-slice-uuid"
"""A part of the first divided GPU."""


class Nvml:
    """NVML with `count` GPUs; a handle is a GPU's index, SLICE's is 100.

    power: whether the second and later ones tell their power; divided: those in MIG mode, whose number of slices is
    one; withheld: those that a scheduler withholds from this process; reasons: of each GPU, why its clock is what it
    is; processes: of each GPU, the ids of the processes on it; old: a driver that knows reasons by their old name only.
    """

    class NVMLError(Exception):
        pass

    nvmlClocksThrottleReasonHwSlowdown = 0x08
    nvmlClocksThrottleReasonSwThermalSlowdown = 0x20
    nvmlClocksThrottleReasonHwThermalSlowdown = 0x40
    nvmlClocksThrottleReasonHwPowerBrakeSlowdown = 0x80

    def __init__(
        self,
        count: int = 2,
        driver: bool = True,
        power: bool = True,
        divided: tuple[int, ...] = (),
        withheld: tuple[int, ...] = (),
        reasons: tuple[int, ...] = (),
        processes: tuple[tuple[int, ...], ...] = (),
        old: bool = False,
    ) -> None:
        self.count, self.driver, self.power, self.divided, self.withheld = count, driver, power, divided, withheld
        self.reasons, self.processes, self.old = reasons, processes, old

    def nvmlInit(self) -> None:
        if not self.driver:
            raise self.NVMLError("Driver Not Loaded")

    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.1"

    def nvmlDeviceGetCount(self) -> int:
        return self.count

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        if index in self.withheld:
            raise self.NVMLError("Insufficient Permissions")
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> int:
        if uuid == SLICE and self.divided:
            return 100
        if uuid not in UUIDS[: self.count]:
            raise self.NVMLError("Not Found")
        return UUIDS.index(uuid)

    def nvmlDeviceGetUUID(self, handle: int) -> str:
        return SLICE if handle == 100 else UUIDS[handle]

    def nvmlDeviceGetName(self, handle: int) -> str:
        return "NVIDIA Test"

    def nvmlDeviceGetMigMode(self, handle: int) -> list[int]:
        if not self.divided:
            raise self.NVMLError("Not Supported")
        return [int(handle in self.divided)] * 2

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:
        return SimpleNamespace(used=100 * (handle + 1), total=1000)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> SimpleNamespace:
        return SimpleNamespace(gpu=20 * (handle + 1))

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        if handle and not self.power:
            raise self.NVMLError("Not Supported")
        return 150_000

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        return 2_000 * (handle + 1)

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: int) -> int:
        if self.old:
            raise self.NVMLError("Function Not Found")
        return self.nvmlDeviceGetCurrentClocksThrottleReasons(handle)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: int) -> int:
        if not self.reasons:
            raise self.NVMLError("Not Supported")
        return self.reasons[handle]

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[SimpleNamespace]:
        if not self.processes:
            raise self.NVMLError("Not Supported")
        return [SimpleNamespace(pid=pid) for pid in self.processes[handle]]
