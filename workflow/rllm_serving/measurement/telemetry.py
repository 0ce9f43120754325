"""What the server and the device did while a point ran: samples of /metrics, of the process tree and of the GPU."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import psutil
from prometheus_client.parser import text_string_to_metric_families

from ..load.client import clock
from ..serving.engines import MetricSource

TREE_REFRESH_S = 2.0


@dataclass(slots=True)
class _RawSample:
    """One sample as taken: parsed only after the point, to leave the cores to server and client."""

    time: float
    page: bytes | None
    rss: int | None
    cpu_s: float | None
    device: dict[str, float | None]


class GpuSampler:
    """The GPUs that a server uses, by their UUIDs, read through NVML; nothing where there are none."""

    def __init__(self, uuids: Sequence[str] = ()) -> None:
        self._handles: list[Any] = []
        if uuids:
            import pynvml

            self._nvml = pynvml
            with contextlib.suppress(pynvml.NVMLError):
                pynvml.nvmlInit()
                self._handles = [pynvml.nvmlDeviceGetHandleByUUID(uuid) for uuid in uuids]

    def parse_metrics(self) -> dict[str, float | None]:
        """Of all devices: memory in use (bytes, sum), utilisation (0-1, mean), power (W, sum), energy (J, sum)."""
        names = ("device_memory_bytes", "device_utilisation", "device_power_w", "device_energy_j")
        if not self._handles:
            return dict.fromkeys(names)
        nvml, handles = self._nvml, self._handles

        def total(read: Any) -> float | None:
            try:
                return float(sum(read(handle) for handle in handles))
            except nvml.NVMLError:
                return None

        memory = total(lambda h: nvml.nvmlDeviceGetMemoryInfo(h).used)
        busy = total(lambda h: nvml.nvmlDeviceGetUtilizationRates(h).gpu / 100)
        power = total(lambda h: nvml.nvmlDeviceGetPowerUsage(h) / 1000)
        energy = total(lambda h: nvml.nvmlDeviceGetTotalEnergyConsumption(h) / 1000)
        return dict(zip(names, (memory, None if busy is None else busy / len(handles), power, energy), strict=True))


@dataclass
class MetricsSampler:
    """Samples a server at `hz` in a thread of its own while the context is open; `rows` then gives the samples.

    The context opens with the first sample taken and closes after a last one, so that the counters' growth between
    them is all that happened inside, however short it was.

    Attributes: cost_s, CPU seconds that the sampling itself took; late, samples that came over half a period late.
    """

    port: int
    pid: int
    sources: Mapping[str, MetricSource]
    hz: float
    devices: GpuSampler
    cost_s: float = 0.0
    late: int = 0
    _raw: list[_RawSample] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._stop, self._begun = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._sample, name="telemetry", daemon=True)
        self._prefixes = tuple(source.metric.encode() for source in self.sources.values())
        self._thread.start()
        self._begun.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        tree, refreshed = [psutil.Process()][:0], -TREE_REFRESH_S
        due = clock()
        ending = False
        while True:
            if clock() - refreshed >= TREE_REFRESH_S:
                tree, refreshed = self._tree(), clock()
            page = self._page(connection)
            self._raw.append(_RawSample(clock(), page, *_usage(tree), self.devices.parse_metrics()))
            self._begun.set()
            if ending:
                break
            due += 1 / self.hz
            wait = due - clock()
            if wait < -0.5 / self.hz:
                self.late += 1
                due = clock()
            # One sample more after the end, so that counters have all that happened.
            ending = self._stop.wait(max(0.0, wait))
        connection.close()
        self.cost_s = time.thread_time()

    def _tree(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            root = psutil.Process(self.pid)
            return [root, *root.children(recursive=True)]
        return []

    def _page(self, connection: http.client.HTTPConnection) -> bytes | None:
        try:
            connection.request("GET", "/metrics")
            response = connection.getresponse()
            page = response.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            return None
        if response.status != 200:
            return None
        return b"\n".join(line for line in page.split(b"\n") if line.startswith(self._prefixes)) + b"\n"

    def rows(self, start: float, end: float) -> list[dict[str, float | None]]:
        """One row a sample: time in seconds since `start`, server metrics, device, host memory and CPU.

        in_window: whether the sample was taken between start and end of the load. host_cpu_cores: CPU time that the
        server's processes used since the sample before, in cores.
        """
        rows: list[dict[str, float | None]] = []
        before: _RawSample | None = None
        for raw in self._raw:
            row: dict[str, float | None] = {"time": raw.time - start, "in_window": start <= raw.time <= end}
            row |= {**read(raw.page, self.sources), **raw.device}
            row["host_rss_bytes"] = None if raw.rss is None else float(raw.rss)
            row["host_cpu_cores"] = None
            if before is not None and raw.cpu_s is not None and before.cpu_s is not None:
                # A process that left the tree takes its time along: such a difference tells nothing.
                used = raw.cpu_s - before.cpu_s
                row["host_cpu_cores"] = used / (raw.time - before.time) if used >= 0 else None
            rows.append(row)
            before = raw
        return rows


def _usage(tree: list[psutil.Process]) -> tuple[int | None, float | None]:
    """Resident bytes and CPU seconds of a process tree; None when none of it can be read."""
    rss, cpu, seen = 0, 0.0, False
    for process in tree:
        with contextlib.suppress(psutil.Error), process.oneshot():
            rss += process.memory_info().rss
            times = process.cpu_times()
            cpu += times.user + times.system
            seen = True
    return (rss, cpu) if seen else (None, None)


def read(page: bytes | None, sources: Mapping[str, MetricSource]) -> dict[str, float | None]:
    """The columns of `sources` from a Prometheus page; None where there is no page, or no such metric on it."""
    found: dict[str, list[float]] = {}
    if page is not None:
        for family in text_string_to_metric_families(page.decode("utf-8", "replace")):
            for sample in family.samples:
                found.setdefault(sample.name, []).append(sample.value)
    values: dict[str, float | None] = {}
    for column, source in sources.items():
        samples = found.get(source.metric)
        if samples:
            values[column] = max(samples) if source.combine == "max" else sum(samples)
        else:
            values[column] = source.absent if page else None
    return values
