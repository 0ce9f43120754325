"""GPU leases: none that another job has, and free again when the process that used them is gone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
from conftest import ROOT
from helpers.fake_nvml import UUIDS, Nvml
from helpers.mock_server import eventually
from helpers.run_harness import POINTS, RUN, RunHarness
from rllm_serving.serving import gpus
from rllm_serving.serving.engines import Options
from rllm_serving.serving.gpus import GpuError, acquire_gpus, check_granted
from rllm_serving.serving.process import run_in_environment

pytestmark = pytest.mark.usefixtures("machine")
SEARCH = os.pathsep.join(str(ROOT / folder) for folder in ("workflow", "tests"))
# A job in a process of its own: it says which GPUs it has, and keeps them until its input ends.
JOB = """
import sys
from pathlib import Path
from helpers.fake_nvml import Nvml
sys.modules["pynvml"] = Nvml({machine})
from rllm_serving.serving import gpus
gpus.LOCKS = Path({locks!r})
with gpus.acquire_gpus({count}, timeout_s={timeout}) as lease:
    {work}
"""
KEEP = "print(*lease.uuids, flush=True); sys.stdin.read()"
# A server that does not end when it is asked to.
SERVE = """
    from unit.serving.test_server import CONFIG, FakeEngine, Server
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); open({note!r}, 'w'); time.sleep(600)"
    FakeEngine.stop_grace_s = 600
    server = Server(FakeEngine(program=deaf), CONFIG, Path({note!r} + ".log"), gpus=lease)
    server._start()
    print(server.pid, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def jobs() -> Iterator[ExitStack]:
    with ExitStack() as jobs:
        yield jobs


def start(jobs: ExitStack, count: int, machine: int = 4, timeout: float = 0, work: str = KEEP) -> subprocess.Popen[str]:
    program = JOB.format(machine=machine, locks=str(gpus.LOCKS), count=count, timeout=timeout, work=work)
    process = jobs.enter_context(
        subprocess.Popen(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONPATH": SEARCH},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    )
    jobs.callback(process.kill)
    return process


def first_line(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    return process.stdout.readline().split()


def free() -> list[str]:
    """UUIDs of the GPUs that nobody holds."""
    uuids: list[str] = []
    with ExitStack() as leases:
        for _ in range(4):
            try:
                uuids += leases.enter_context(acquire_gpus(1, timeout_s=0)).uuids
            except GpuError:
                break
    return uuids


def test_jobs_that_start_together_share_no_gpu_and_the_next_is_reported_who_holds_them(jobs: ExitStack) -> None:
    started = [start(jobs, 2, machine=8, timeout=30) for _ in range(4)]
    uuids = [first_line(job) for job in started]
    assert sorted(uuid for job in uuids for uuid in job) == UUIDS
    _, error = start(jobs, 1, machine=8).communicate()
    assert "too few GPUs: 1 needed, 0 of 8 free" in error
    assert all(f"process {job.pid} of {psutil.Process().username()}" in error for job in started)


def test_a_job_that_gets_too_few_gives_them_back_and_waits(jobs: ExitStack) -> None:
    first = start(jobs, 3)
    assert first_line(first) == UUIDS[:3]
    with pytest.raises(GpuError, match="too few GPUs: 2 needed, 1 of 4 free"), acquire_gpus(2, timeout_s=0):
        pytest.fail("two jobs have one GPU")
    assert free() == UUIDS[3:4]
    second = start(jobs, 2, timeout=60)
    first.communicate()
    assert first_line(second) == UUIDS[:2]


def test_the_gpus_of_a_job_that_ended_or_was_killed_are_free(jobs: ExitStack) -> None:
    job = start(jobs, 4)
    assert first_line(job) == UUIDS[:4] and free() == []
    job.kill()
    job.wait()
    assert free() == UUIDS[:4]
    with pytest.raises(ZeroDivisionError), acquire_gpus(4):
        raise ZeroDivisionError
    assert free() == UUIDS[:4]


def test_the_gpu_of_a_killed_run_is_taken_until_its_server_is_gone(jobs: ExitStack, tmp_path: Path) -> None:
    note = tmp_path / "note"
    job = start(jobs, 1, work=SERVE.format(note=str(note)))
    server = psutil.Process(int(first_line(job)[0]))
    supervisor = server.parent()
    assert supervisor is not None and eventually(note.exists)
    jobs.callback(lambda: supervisor.kill() if supervisor.is_running() else None)  # it waits ten minutes for its server
    assert server.environ()["CUDA_VISIBLE_DEVICES"] == "0"
    lock = str(gpus.LOCKS / f"{UUIDS[0]}.lock")
    assert lock in [file.path for file in supervisor.open_files()]
    assert lock not in [file.path for file in server.open_files()]
    job.kill()
    job.wait()
    assert free() == UUIDS[1:4] and supervisor.is_running()
    supervisor.kill()
    assert eventually(lambda: free() == UUIDS[:4])


def test_the_gpu_of_a_killed_job_is_taken_until_its_child_is_gone(jobs: ExitStack, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import os, time; print(os.getpid(), flush=True); time.sleep(600)")
    work = (
        "from rllm_serving.serving import process;"
        "process.log.info = lambda *words: print(*words[1:], flush=True);"
        f" process.run_in_environment('c', sys.executable, 'slow', [], lease, PYTHONPATH={str(tmp_path)!r})"
    )
    job = start(jobs, 1, work=work)
    child = psutil.Process(int(first_line(job)[1]))
    assert child.environ()["CUDA_VISIBLE_DEVICES"] == "0"
    job.kill()
    job.wait()
    assert free() == UUIDS[1:4]
    child.kill()
    assert eventually(lambda: free() == UUIDS[:4])


def test_too_few_gpus_are_reported_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    check_granted("a run", 2, 2)
    with pytest.raises(GpuError, match=r"a run: .*2 needed, 1 granted; .*--resources gpu=2"):
        check_granted("a run", 2, 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with pytest.raises(GpuError, match=r"2 needed, 1 can be used here \(CUDA_VISIBLE_DEVICES=1\)"), acquire_gpus(2):
        pytest.fail("one GPU was given out twice")
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(driver=False))
    with pytest.raises(GpuError, match=r"no NVIDIA GPU.*Driver Not Loaded.*set device: cpu"), acquire_gpus(1):
        pytest.fail("a GPU without a driver")


def test_without_a_need_nothing_is_asked_and_nothing_set(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with acquire_gpus(0) as lease:
        assert (lease.gpus, lease.locks, lease.uuids) == ((), (), ()) and lease.variables == {}
    assert not machine.exists()
    assert RUN.gpus("cpu") == 0 and RUN.gpus("cuda") == 1


def test_all_users_may_lock_whatever_the_umask_of_the_first(machine: Path) -> None:
    before = os.umask(0o077)
    try:
        with acquire_gpus(1):
            pass
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
    assert machine.stat().st_mode & 0o7777 == 0o1777
    assert (machine / f"{UUIDS[0]}.lock").stat().st_mode & 0o7777 == 0o444


def test_a_lock_file_that_is_cleared_away_is_made_again(machine: Path) -> None:
    with acquire_gpus(1) as lease:
        (machine / f"{UUIDS[0]}.lock").unlink()
        assert len(lease.locks) == 1
    with acquire_gpus(1) as lease:
        assert lease.uuids == (UUIDS[0],)


def test_locks_that_cannot_be_opened_are_reported(machine: Path) -> None:
    machine.write_text("in the way")
    with pytest.raises(GpuError, match=rf"the lock of GPU 0 cannot be opened .*{machine}"), acquire_gpus(1):
        pytest.fail("a GPU without a lock")


def test_a_run_uses_records_and_reads_its_own_gpus_alone(harness: RunHarness, jobs: ExitStack) -> None:
    assert first_line(start(jobs, 1)) == UUIDS[:1]
    harness.execute(replace(RUN, points=POINTS[:1], options=Options(tensor_parallel=2)), device="cuda")
    [session] = json.loads(harness.paths.record.read_text())["sessions"]
    shown = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "1,2"}
    assert session["environment"] == {"FAKE_ENGINE": "here", **shown}
    facts = {"name": "NVIDIA Test", "memory_bytes": 80 * 2**30, "capability": "sm90"}
    assert session["hardware"]["gpus"] == [{**facts, "uuid": uuid} for uuid in UUIDS[1:3]]
    assert session["hardware"]["gpu_links"] == [{"gpus": [0, 1], "link": "one NUMA node"}]
    assert session["hardware"]["gpus_in_machine"] == 4 and session["hardware"]["driver"] == "580.1"
    assert set(pq.read_table(harness.paths.server)["device_memory_bytes"].to_pylist()) == {200 + 300}
    assert free() == UUIDS[1:4]


def test_a_run_without_its_gpus_starts_no_server(harness: RunHarness) -> None:
    with pytest.raises(GpuError, match="8 needed, 4 can be used here"):
        harness.execute(replace(RUN, options=Options(tensor_parallel=8)), device="cuda")
    assert not harness.paths.server_log.exists() and not harness.record.exists()


def test_a_child_sees_its_gpus(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    (tmp_path / "shows.py").write_text("import os; print('sees', os.environ['CUDA_VISIBLE_DEVICES'])")
    with caplog.at_level("INFO"), acquire_gpus(2) as lease:
        run_in_environment("it", Path(sys.executable), "shows", [], lease, PYTHONPATH=str(tmp_path))
    assert "sees 0,1" in caplog.text
