"""The supervisor: when the run or the workflow exits, the server goes too, with all that it started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from helpers.mock_server import eventually
from rllm_serving.lifetime import supervisor
from rllm_serving.lifetime.supervisor import alive

# A server that starts a grandchild in a session of its own, and writes both ids down.
SERVER = """
import os, signal, subprocess, sys, time
{deaf}
child = subprocess.Popen([sys.executable, "-c", "import signal, time; {deaf}; time.sleep(600)"], start_new_session=True)
with open(sys.argv[1] + ".part", "w") as file:
    file.write(f"{{os.getpid()}} {{child.pid}}")
os.rename(sys.argv[1] + ".part", sys.argv[1])
time.sleep(600)
"""
DEAF = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"


def command(*server: str, watch: str = "", grace: float = 10) -> list[str]:
    return [sys.executable, supervisor.__file__, "--watch", watch, "--grace", str(grace), "--", *server]


def python(program: str, *arguments: str) -> tuple[str, ...]:
    return sys.executable, "-c", program, *arguments


class SupervisedServer:
    """SERVER under a supervisor; `pids`: of the server and its grandchild."""

    def __init__(self, folder: Path, deaf: bool = False, **options: object) -> None:
        note = folder / "pids"
        server = python(SERVER.format(deaf=DEAF if deaf else "pass"), str(note))
        self.process = subprocess.Popen(
            command(*server, **options),  # type: ignore[arg-type]
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert eventually(note.exists)
        self.pids = [int(pid) for pid in note.read_text().split()]

    def gone(self) -> bool:
        return eventually(lambda: not any(alive(pid) for pid in self.pids))


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[SupervisedServer]:
    supervised = SupervisedServer(tmp_path)
    assert all(alive(pid) for pid in supervised.pids)
    yield supervised
    with supervised.process:
        supervised.process.kill()
    for pid in supervised.pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_alive_knows_the_living_from_zombies_and_the_dead() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert alive(process.pid) and alive(psutil.Process(process.pid))
        before = psutil.Process(process.pid)
        process.kill()
        assert eventually(lambda: before.status() == psutil.STATUS_ZOMBIE)
        assert not alive(process.pid) and not alive(before)
    assert not alive(process.pid) and not alive(before)


def test_the_first_line_is_the_servers_id(supervised: SupervisedServer) -> None:
    assert supervised.process.stdout is not None
    assert int(supervised.process.stdout.readline()) == supervised.pids[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_server_and_grandchild(supervised: SupervisedServer, number: signal.Signals) -> None:
    supervised.process.send_signal(number)
    assert supervised.process.wait(30) == 128 + signal.SIGTERM
    assert supervised.gone()


def test_the_end_of_its_input_ends_server_and_grandchild(supervised: SupervisedServer) -> None:
    assert supervised.process.stdin is not None
    supervised.process.stdin.close()
    assert supervised.process.wait(30) == 128 + signal.SIGTERM
    assert supervised.gone()


def test_a_server_killed_from_outside_takes_its_grandchild_along(supervised: SupervisedServer) -> None:
    os.kill(supervised.pids[0], signal.SIGKILL)
    assert supervised.process.wait(30) == 128 + signal.SIGKILL
    assert supervised.gone()


def test_a_server_does_not_outlive_a_supervisor_killed_hard(supervised: SupervisedServer) -> None:
    supervised.process.kill()
    assert eventually(lambda: not alive(supervised.pids[0]))


def test_the_server_goes_when_the_run_is_killed_hard(tmp_path: Path) -> None:
    note = tmp_path / "pids"
    supervisor_command = command(*python(SERVER.format(deaf="pass"), str(note)))
    run = (
        f"import subprocess, time; p = subprocess.Popen({supervisor_command!r}, stdin=subprocess.PIPE); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", run], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert eventually(note.exists)
    pids = [int(pid) for pid in note.read_text().split()]
    assert all(alive(pid) for pid in pids)
    process.kill()
    process.wait()
    assert eventually(lambda: not any(alive(pid) for pid in pids))


def test_the_server_goes_when_a_watched_process_dies(tmp_path: Path) -> None:
    """Its own run may live on: here the test, which keeps the supervisor's input open."""
    watched = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    supervised = SupervisedServer(tmp_path, watch=f"{os.getpid()},{watched.pid}")
    watched.kill()  # left a zombie: nobody has waited for it
    with supervised.process:
        assert supervised.process.wait(30) == 128 + signal.SIGTERM
    assert supervised.gone()
    watched.wait()


def test_a_server_that_ignores_the_request_to_stop_is_killed_after_the_grace(tmp_path: Path) -> None:
    supervised = SupervisedServer(tmp_path, deaf=True, grace=0.3)
    with supervised.process:
        supervised.process.terminate()
        assert supervised.process.wait(30) == 128 + signal.SIGKILL
    assert supervised.gone()


def test_a_server_that_stops_by_itself_when_asked_is_given_the_time(tmp_path: Path) -> None:
    done = tmp_path / "done"
    program = (
        "import pathlib, signal, sys, time\n"
        f"def stop(*_): time.sleep(0.5); pathlib.Path({str(done)!r}).touch(); sys.exit(4)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        f"pathlib.Path({str(tmp_path / 'up')!r}).touch()\n"
        "time.sleep(600)"
    )
    with subprocess.Popen(command(*python(program)), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert eventually((tmp_path / "up").exists)
        process.terminate()
        assert process.wait(30) == 4 and done.exists()


@pytest.mark.parametrize(
    ("program", "code"),
    [("", 0), ("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", 128 + 9)],
)
def test_the_exit_code_passes_through(program: str, code: int) -> None:
    with subprocess.Popen(command(*python(program)), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.wait(30) == code


def test_what_the_server_prints_goes_to_the_log_alone() -> None:
    program = "import sys; print('out'); print('err', file=sys.stderr)"
    with subprocess.Popen(
        command(*python(program)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        printed, errors = process.stdout.read(), process.stderr.read()
    assert printed.strip().isdigit() and sorted(errors.split()) == ["err", "out"]


def test_a_watched_process_that_is_gone_already_means_no_start(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    note = tmp_path / "note"
    server = python(f"open({str(note)!r}, 'w')")
    with subprocess.Popen(command(*server, watch=str(gone.pid)), stdin=subprocess.PIPE) as process:
        assert process.wait(30) == 1
    assert not note.exists()
