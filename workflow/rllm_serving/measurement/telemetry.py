"""Samples taken while a point runs: of the server's /metrics page, of its process tree, of the cores and the GPUs."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import psutil

from ..load.client import clock
from .engine_metrics import PAUSE_S, TRIES, EngineMetrics, PageReader
from .host_energy import HostEnergy
from .sampling import interval

TREE_REFRESH_S = 2.0
"""How often the server's descendants are listed anew."""
BUSY = ("user", "nice", "system", "irq", "softirq")
"""What a core's time goes to when it works; guests are a part of user and nice."""


@dataclass(slots=True)
class _RawSample:
    """One sample as taken: parsed only after the point, to leave the cores to server and client.

    cpu_s: of the server; client_s: of this process; busy_s, steal_s: see `_cores`; energy_j: see `HostEnergy`.
    """

    time: float
    page: bytes | None
    rss: int | None
    cpu_s: float | None
    client_s: float
    busy_s: float | None
    steal_s: float | None
    device: dict[str, float | None]
    energy_j: float | None = None


class GpuSampler:
    """Reads the GPUs that a server uses, named by their UUIDs, through NVML."""

    def __init__(self, uuids: Sequence[str] = ()) -> None:
        self._handles: list[Any] = []
        if uuids:
            import pynvml

            self._nvml = pynvml
            with contextlib.suppress(pynvml.NVMLError):
                pynvml.nvmlInit()
                self._handles = [pynvml.nvmlDeviceGetHandleByUUID(uuid) for uuid in uuids]

    def read(self, server: Collection[int] = ()) -> dict[str, float | None]:
        """Read the columns that describe GPUs.

        Over all GPUs: memory in use (bytes, sum), utilisation (0-1, mean), power (W, sum), energy (J, sum), whether any
        is slowed down for heat or lack of power (0 or 1), and how many processes of others use them.

        Args:
            server: process ids of the server. Where NVML lists none of them it names processes otherwise than this
                process does (in a container), or not at all: then nobody knows which are others'.
        """
        names = ["device_memory_bytes", "device_utilisation", "device_power_w", "device_energy_j"]
        names += ["device_throttled", "device_other_processes"]
        if not self._handles:
            return dict.fromkeys(names)
        nvml, handles = self._nvml, self._handles
        slowed_down = nvml.nvmlClocksThrottleReasonHwSlowdown | nvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown
        slowed_down |= nvml.nvmlClocksThrottleReasonHwThermalSlowdown | nvml.nvmlClocksThrottleReasonSwThermalSlowdown

        def total(read_one: Callable[[Any], float]) -> float | None:
            with contextlib.suppress(nvml.NVMLError):
                return float(sum(map(read_one, handles)))
            return None

        memory = total(lambda h: nvml.nvmlDeviceGetMemoryInfo(h).used)
        busy = total(lambda h: nvml.nvmlDeviceGetUtilizationRates(h).gpu / 100)
        power = total(lambda h: nvml.nvmlDeviceGetPowerUsage(h) / 1000)
        energy = total(lambda h: nvml.nvmlDeviceGetTotalEnergyConsumption(h) / 1000)
        throttled = total(lambda h: bool(self._clock_reasons(h) & slowed_down))
        values = [memory, None if busy is None else busy / len(handles), power, energy]
        values += [None if throttled is None else float(throttled > 0), self._others(server)]
        return dict(zip(names, values, strict=True))

    def _clock_reasons(self, handle: Any) -> int:
        try:
            return self._nvml.nvmlDeviceGetCurrentClocksEventReasons(handle)
        except self._nvml.NVMLError:  # a driver before 535 has the older name only
            return self._nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)

    def _others(self, server: Collection[int]) -> float | None:
        with contextlib.suppress(self._nvml.NVMLError):
            lists = map(self._nvml.nvmlDeviceGetComputeRunningProcesses, self._handles)
            found = {process.pid for processes in lists for process in processes}
            return float(len(found.difference(server))) if not found.isdisjoint(server) else None
        return None


@dataclass
class MetricsSampler:
    """Samples a server in a thread of its own while the context is open; `rows` then gives the samples.

    The first sample is taken before the context opens and the last one when it closes, so that the growth of the
    counters between them covers everything inside. Where one of these two comes damaged, another follows at once.

    Attributes:
        port: the server's TCP port.
        pid: its first process.
        metrics: reads the server's pages.
        hz: samples a second of a long point; see `sampling`.
        gpus: reads the server's GPUs.
        cost_s: CPU time that the sampling itself took (s).
        late: samples that were over half a period late.
        damaged: samples whose page did not come or could not be read; counted by `rows`.
    """

    port: int
    pid: int
    metrics: EngineMetrics
    hz: float
    gpus: GpuSampler
    cost_s: float = 0.0
    late: int = 0
    damaged: int = 0
    _raw: list[_RawSample] = field(default_factory=list)
    _host_energy: HostEnergy = field(default_factory=HostEnergy)

    def __enter__(self) -> Self:
        self._stop, self._started = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._sample, name="telemetry", daemon=True)
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def counts(self) -> dict[str, float]:
        """How many samples there are, how many of them were late or damaged, and their cost, for run.json."""
        return {"samples": len(self._raw), "late": self.late, "damaged": self.damaged, "cpu_s": self.cost_s}

    def _sample(self) -> None:
        pages = self._pages()
        tree: list[psutil.Process] = []
        refreshed = -TREE_REFRESH_S
        began = due = clock()
        ending = False
        while True:
            if clock() - refreshed >= TREE_REFRESH_S:
                tree, refreshed = self._tree(), clock()
            self._take(pages, tree, is_edge=ending or not self._raw)
            self._started.set()
            if ending:
                break
            pause = interval(due - began, self.hz)
            due += pause
            wait = due - clock()
            if wait < -0.5 * pause:
                self.late += 1
                due = clock()
            # One more sample after the end, so that the counters cover everything.
            ending = self._stop.wait(max(0.0, wait))
        pages.close()
        self.cost_s = time.thread_time()

    def _take(self, pages: PageReader, tree: list[psutil.Process], is_edge: bool) -> None:
        """Take a sample; of the first and the last, at the edges of the point, up to TRIES until one is whole."""
        for _ in range(TRIES):
            page = pages.page()
            used = (*self._used(tree), time.process_time(), *_cores())
            device = self.gpus.read({process.pid for process in tree})
            self._raw.append(_RawSample(clock(), page, *used, device, self._host_energy.read()))
            if not is_edge or self.metrics.is_whole(page):
                break
            time.sleep(PAUSE_S)

    def _pages(self) -> PageReader:
        return PageReader(self.port, self.metrics.names)

    def _used(self, tree: list[psutil.Process]) -> tuple[int | None, float | None]:
        return _usage(tree)

    def _tree(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            root = psutil.Process(self.pid)
            return [root, *root.children(recursive=True)]
        return []

    def rows(self, start: float, end: float) -> list[dict[str, float | None]]:
        """Make a row of server.parquet, without its keys, of each sample.

        Args:
            start: when the load started, on the client's clock (s).
            end: when it ended.
        """
        rows: list[dict[str, float | None]] = []
        self.damaged = 0
        previous: _RawSample | None = None
        owed = 0.0
        for raw in self._raw:
            row: dict[str, float | None] = {"time": raw.time - start, "in_window": start <= raw.time <= end}
            values = self.metrics.read(raw.page)
            self.damaged += all(value is None for value in values.values())
            row |= {**values, **raw.device}
            row |= {"host_rss_bytes": None if raw.rss is None else float(raw.rss), "host_energy_j": raw.energy_j}
            server_s, others_s, steal_s = (None, None, None) if previous is None else _spent(previous, raw)
            if others_s is not None:
                # Clocks tick in hundredths of a second: what one sample has too little the next has too much.
                others_s += owed
                owed = min(0.0, others_s)
            seconds = 1.0 if previous is None else raw.time - previous.time
            spent = {"host_cpu_cores": server_s, "host_others_cores": others_s, "host_steal_cores": steal_s}
            row |= {name: None if value is None else max(0.0, value) / seconds for name, value in spent.items()}
            rows.append(row)
            previous = raw
        return rows


def _spent(before: _RawSample, after: _RawSample) -> tuple[float | None, float | None, float | None]:
    """CPU seconds between two samples: of the server, of others than server and client, of the hypervisor's others."""
    server, busy, steal = (
        None if first is None or last is None else last - first
        for first, last in (
            (before.cpu_s, after.cpu_s),
            (before.busy_s, after.busy_s),
            (before.steal_s, after.steal_s),
        )
    )
    if server is not None and server < 0:
        server = None  # a process has left the tree, and its CPU time with it
    if busy is None or server is None:
        return server, None, steal
    return server, busy - server - (after.client_s - before.client_s), steal


def _usage(tree: list[psutil.Process]) -> tuple[int | None, float | None]:
    """Measure resident bytes and CPU seconds of a process tree; None when none of it can be read."""
    rss, cpu, readable = 0, 0.0, False
    for process in tree:
        with contextlib.suppress(psutil.Error), process.oneshot():
            rss += process.memory_info().rss
            times = process.cpu_times()
            cpu += times.user + times.system
            readable = True
    return (rss, cpu) if readable else (None, None)


def cores() -> int:
    """How many cores this process may use, and so those that it starts."""
    return len(os.sched_getaffinity(0))


def _cores() -> tuple[float | None, float | None]:
    """CPU seconds that those cores have worked, for anyone, and that the hypervisor gave to other machines."""
    every = psutil.cpu_times(percpu=True)
    mine = [every[number] for number in os.sched_getaffinity(0) if number < len(every)]
    if not any(map(sum, mine)):
        return None, None  # a sandbox that hides what its machine does
    return sum(getattr(core, name) for core in mine for name in BUSY), sum(core.steal for core in mine)
