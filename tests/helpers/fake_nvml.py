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
    is; processes: of each GPU, the ids of the processes on it; old: a driver that knows reasons by their old name only;
    version: the driver's; memory: bytes of each GPU; capability: its major and minor; nvlinked: groups of GPUs that
    NVLink connects; numa: GPUs of a NUMA node, in their order.
    """

    class NVMLError(Exception):
        pass

    NVML_P2P_CAPS_INDEX_NVLINK = 2
    NVML_P2P_STATUS_OK = 0
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
        version: str = "580.1",
        memory: int = 80 * 2**30,
        capability: tuple[int, int] = (9, 0),
        nvlinked: tuple[tuple[int, ...], ...] = (),
        numa: int = 4,
    ) -> None:
        self.count, self.driver, self.power, self.divided, self.withheld = count, driver, power, divided, withheld
        self.reasons, self.processes, self.old = reasons, processes, old
        self.version, self.memory, self.capability = version, memory, capability
        self.nvlinked, self.numa = nvlinked, numa

    def nvmlInit(self) -> None:
        if not self.driver:
            raise self.NVMLError("Driver Not Loaded")

    def nvmlSystemGetDriverVersion(self) -> str:
        return self.version

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
        return SimpleNamespace(used=100 * (handle + 1), total=self.memory)

    def nvmlDeviceGetCudaComputeCapability(self, handle: int) -> tuple[int, int]:
        return self.capability

    def nvmlDeviceGetP2PStatus(self, one: int, other: int, index: int) -> int:
        if not self.nvlinked:
            raise self.NVMLError("Not Supported")
        return 0 if any({one, other} <= set(group) for group in self.nvlinked) else 1

    def nvmlDeviceGetTopologyCommonAncestor(self, one: int, other: int) -> int:
        return 40 if one // self.numa == other // self.numa else 50

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
