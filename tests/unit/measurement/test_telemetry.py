"""Samples: metrics pages with and without a value, CPU time and memory of process trees, GPUs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest
from helpers.fake_engine import METRIC_VALUES, METRICS_PAGE
from helpers.fake_nvml import UUIDS, Nvml
from helpers.mock_server import MockServer, eventually
from rllm_serving.measurement import telemetry
from rllm_serving.measurement.engine_metrics import EngineMetrics
from rllm_serving.measurement.telemetry import GpuSampler, MetricsSampler, _RawSample
from rllm_serving.serving.engines import ENGINES

METRICS = ENGINES["vllm"].metrics
NO_DEVICE = dict.fromkeys(("device_memory_bytes", "device_utilisation", "device_power_w", "device_energy_j"))
NO_DEVICE |= dict.fromkeys(("device_throttled", "device_other_processes"))


def sampler(port: int = 1, pid: int = 1, hz: float = 50) -> MetricsSampler:
    return MetricsSampler(port, pid, EngineMetrics(METRICS), hz, GpuSampler())


def test_rows_count_cpu_between_samples_and_say_nothing_when_a_process_left() -> None:
    sampling = sampler()
    cpu = [10.0, 10.25, 11.25, None, 12.0, 9.0, 9.5]
    for i, seconds in enumerate(cpu):
        rss = None if seconds is None else 1000 + i
        page = METRICS_PAGE if i else None
        sampling._raw.append(_RawSample(100 + i / 2, page, rss, seconds, 0.0, None, None, NO_DEVICE))
    rows = sampling.rows(101.0, 102.5)
    assert [row["time"] for row in rows] == [-1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0]
    assert [row["in_window"] for row in rows] == [False, False, True, True, True, True, False]
    assert [row["host_cpu_cores"] for row in rows] == [None, 0.5, 2.0, None, None, None, 1.0]
    assert {row["host_others_cores"] for row in rows} == {row["host_steal_cores"] for row in rows} == {None}
    assert [row["host_rss_bytes"] for row in rows] == [1000.0, 1001.0, 1002.0, None, 1004.0, 1005.0, 1006.0]
    assert rows[0]["running"] is None and rows[1]["running"] == 31.0


def test_what_neither_server_nor_client_used_of_the_cores_is_others() -> None:
    sampling = sampler()
    # Server, client, all that was busy, stolen; every half second.
    seen: list[tuple[float | None, float, float | None, float | None]] = [
        (10.0, 1.0, 100.0, 5.0),
        (10.5, 1.25, 101.25, 5.0),  # half a second of others
        (11.0, 1.25, 101.5, 5.25),  # a tick too little: 0.25 s short
        (11.0, 1.25, 102.0, 5.25),  # and now too much
        (9.0, 1.25, 102.5, 5.0),  # a process left; a counter fell
        (9.25, 1.25, None, None),
        (9.5, 1.25, 103.0, 5.0),
        (9.75, 1.25, 103.5, 5.0),
    ]
    for i, (server, client, busy, steal) in enumerate(seen):
        sampling._raw.append(_RawSample(i / 2, None, 1, server, client, busy, steal, NO_DEVICE))
    rows = sampling.rows(0.0, 9.0)
    assert [row["host_others_cores"] for row in rows] == [None, 1.0, 0.0, 0.5, None, None, None, 0.5]
    assert [row["host_steal_cores"] for row in rows] == [None, 0.0, 0.5, 0.0, 0.0, None, None, 0.0]


def test_a_machine_that_hides_its_cores_is_not_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    busy, steal = telemetry._cores()
    assert busy is not None and busy > 0 and steal is not None and telemetry.cores() >= 1
    nothing = [psutil.cpu_times()._replace(**dict.fromkeys(psutil.cpu_times()._fields, 0.0))] * 64
    monkeypatch.setattr(psutil, "cpu_times", lambda **_: nothing)
    assert telemetry._cores() == (None, None)


@pytest.fixture
def tree() -> Iterator[int]:
    """A process that rests, with a child that holds 64 MiB and computes until the parent's input ends."""
    child = "x = bytearray(64 << 20)\nprint(flush=True)\nwhile True: pass"
    parent = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}], stdout=subprocess.PIPE)\n"
        "child.stdout.readline(); print(flush=True); sys.stdin.read(); child.kill(); child.wait()"
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.communicate()


def test_a_tree_of_processes_is_sampled_with_the_servers_own_page(tree: int) -> None:
    with MockServer(metrics=METRICS_PAGE) as server, sampler(server.port, tree) as sampling:
        # The parent rests: the time and the memory are its child's.
        assert eventually(lambda: any((row["host_cpu_cores"] or 0) > 0.02 for row in sampling.rows(0.0, 1e9)))
        own = psutil.Process(tree).memory_info().rss
    rows = sampling.rows(0.0, 1e9)
    assert all(0 <= (row["host_others_cores"] or 0) <= 4 * telemetry.cores() for row in rows)
    assert all(row | METRIC_VALUES == row for row in rows)
    assert all((row["host_rss_bytes"] or 0) > own + (60 << 20) for row in rows)
    assert sampling.cost_s > 0
    times = [row["time"] or 0 for row in rows]
    assert times == sorted(times) and len(set(times)) == len(times)
    assert set(server.received) == {"GET /metrics"} and server.accepted == 1


def test_damaged_pages_at_the_edges_of_a_point_are_asked_for_again(tree: int) -> None:
    refusal, half = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n" + METRICS_PAGE[:-4]
    with MockServer(metrics=METRICS_PAGE) as server:
        sampling = sampler(server.port, tree)
        sampling.metrics.read(METRICS_PAGE)  # of a point before
        server.pages = [refusal, half]
        with sampling:
            assert len(sampling._raw) >= 3
            assert eventually(lambda: not server.pages)
        rows = sampling.rows(0.0, 1e9)
    assert [row["running"] for row in rows][:3] == [None, None, 31.0] and rows[-1]["running"] == 31.0
    assert sampling.counts()["damaged"] == 2 and sampling.counts()["samples"] == len(rows)


def test_a_server_without_metrics_or_without_life_gives_rows_of_nulls() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    with MockServer() as server, sampler(server.port, gone.pid) as sampling:
        assert eventually(lambda: len(server.received) > 2)  # each a 404
    nothing = dict.fromkeys([*METRICS, *NO_DEVICE, "host_rss_bytes", "host_cpu_cores", "host_others_cores"])
    known = ("time", "in_window", "host_steal_cores", "host_energy_j")
    assert all(row == nothing | {name: row[name] for name in known} for row in sampling.rows(0.0, 1e9))
    with sampler(server.port, gone.pid) as sampling:  # nobody listens any more
        assert eventually(lambda: len(sampling._raw) > 2)
    assert all(row == nothing | {name: row[name] for name in known} for row in sampling.rows(0.0, 1e9))


def test_without_a_device_its_columns_are_null() -> None:
    assert GpuSampler().read() == NO_DEVICE


@pytest.mark.parametrize(
    ("nvml", "used", "values"),
    [
        # Of GPU i: 100 (i + 1) bytes, 20 (i + 1) % busy, 150 W, 2 (i + 1) J.
        (Nvml(3), [0, 1, 2], (600.0, 0.4, 450.0, 12.0, None, None)),
        (Nvml(4), [1, 3], (600.0, 0.6, 300.0, 12.0, None, None)),
        (Nvml(2, power=False), [0, 1], (300.0, 0.3, None, 6.0, None, None)),
        (Nvml(2, driver=False), [0], (None,) * 6),
        (Nvml(2), [], (None,) * 6),
        # Idle (1), a power cap (4) and other settings slow nothing down; heat (0x20, 0x40), a brake and hardware do.
        (Nvml(2, reasons=(0x01, 0x04 | 0x02)), [0, 1], (300.0, 0.3, 300.0, 6.0, 0.0, None)),
        (Nvml(2, reasons=(0x01, 0x20)), [0, 1], (300.0, 0.3, 300.0, 6.0, 1.0, None)),
        (Nvml(2, reasons=(0x01, 0x20)), [0], (100.0, 0.2, 150.0, 2.0, 0.0, None)),
        (Nvml(1, reasons=(0x44,), old=True), [0], (100.0, 0.2, 150.0, 2.0, 1.0, None)),
        (Nvml(1, reasons=(0x80,)), [0], (100.0, 0.2, 150.0, 2.0, 1.0, None)),
        (Nvml(1, reasons=(0x08,)), [0], (100.0, 0.2, 150.0, 2.0, 1.0, None)),
        # The server's are 7 and 8.
        (Nvml(2, processes=((7,), (8, 7))), [0, 1], (300.0, 0.3, 300.0, 6.0, None, 0.0)),
        (Nvml(2, processes=((7, 9), (8, 9, 10))), [0, 1], (300.0, 0.3, 300.0, 6.0, None, 2.0)),
        (Nvml(2, processes=((7,), (9,))), [0], (100.0, 0.2, 150.0, 2.0, None, 0.0)),
        (Nvml(1, processes=((1007, 1009),)), [0], (100.0, 0.2, 150.0, 2.0, None, None)),  # other names: a container
        (Nvml(1, processes=((),)), [0], (100.0, 0.2, 150.0, 2.0, None, None)),
    ],
)
def test_the_devices_that_are_used_are_summed_and_null_where_they_do_not_tell(
    nvml: Nvml, used: list[int], values: tuple[float | None, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert tuple(GpuSampler([UUIDS[i] for i in used]).read({7, 8}).values()) == pytest.approx(values)
