"""A stand-in for pynvml: a machine with some GPUs of one kind."""

from __future__ import annotations

from types import SimpleNamespace

UUIDS = [f"GPU-{i}{i}{i}{i}-uuid" for i in range(8)]
SLICE = "MIG-slice-uuid"
"""A part of the first divided GPU."""


class Nvml:
    """NVML with `count` GPUs; a handle is a GPU's index, SLICE's is 100.

    power: whether the second and later ones tell their power; divided: those in MIG mode, whose number of slices is
    one; withheld: those that a scheduler withholds from this process.
    """

    class NVMLError(Exception):
        pass

    def __init__(
        self,
        count: int = 2,
        driver: bool = True,
        power: bool = True,
        divided: tuple[int, ...] = (),
        withheld: tuple[int, ...] = (),
    ) -> None:
        self.count, self.driver, self.power, self.divided, self.withheld = count, driver, power, divided, withheld

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
