"""A server's lifetime, with the mock server as engine: readiness, errors with the log's end, nothing left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import psutil
import pytest
from helpers import mock_server
from helpers.fake_engine import FakeEngine
from helpers.mock_server import HOST, eventually
from rllm_serving.lifetime.supervisor import alive
from rllm_serving.serving import server as module
from rllm_serving.serving.engines import ENGINES, Options, ServerConfig
from rllm_serving.serving.server import HIGHEST_PORT, Server, ServerError, check_port, free_port, tail

CONFIG = ServerConfig(Path(sys.executable), Path("model"), None, "m", "cpu", Options(), None, False, 1)


def serve(folder: Path, *arguments: object, timeout_s: float = 60, program: str | None = None) -> Server:
    return Server(FakeEngine(*arguments, program=program), CONFIG, folder / "logs" / "server.log", timeout_s)


def failure(server: Server) -> str:
    """What entering `server` says; nothing of it may be left."""
    with pytest.raises(ServerError) as caught, server:
        pytest.fail("it got ready")
    assert server.pid is None or eventually(lambda: not alive(server.pid or 0))
    assert server._supervisor is None or server._supervisor.returncode is not None
    return str(caught.value)


def test_it_is_ready_when_healthy_and_a_real_completion_came(tmp_path: Path) -> None:
    record = tmp_path / "record"
    with serve(tmp_path, "--unhealthy", 2, "--unready", 2, "--record", record) as server:
        assert record.read_text().count("\n") == 3 and '"max_tokens": 2' in record.read_text()
        assert server.startup_s is not None and server.startup_s > 0
        assert server.pid is not None and alive(server.pid)
        assert server.url == f"http://127.0.0.1:{server.port}"
        server.flush()
        server.check()
    assert not alive(server.pid)


def test_a_server_can_be_started_at_a_lower_priority(tmp_path: Path) -> None:
    own = os.nice(0)
    with Server(FakeEngine(), CONFIG, tmp_path / "server.log", 60, niceness=5) as server:
        assert psutil.Process(server.pid).nice() == min(own + 5, 19)  # the lowest priority is 19


def test_stopping_leaves_nothing_and_can_be_done_twice(tmp_path: Path) -> None:
    note = tmp_path / "grandchild"
    with serve(tmp_path, "--grandchild", note) as server:
        pids = [server.pid or 0, int(note.read_text())]
        assert all(alive(pid) for pid in pids)
    assert not any(alive(pid) for pid in pids)
    assert server.stop() == server.stop() == 128 + signal.SIGTERM
    check_port(server.port)


def test_an_error_within_the_context_stops_it_too(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), serve(tmp_path) as server:
        raise ZeroDivisionError
    assert server.pid is not None and not alive(server.pid)


def test_killing_the_whole_process_group_of_a_run_leaves_nothing(tmp_path: Path) -> None:
    note = tmp_path / "grandchild"
    program = (
        "import time; from pathlib import Path; from unit.serving.test_server import serve\n"
        f"with serve(Path({str(tmp_path)!r}), '--grandchild', {str(note)!r}) as server:\n"
        "    print(server.pid, flush=True); time.sleep(600)"
    )
    search = os.pathsep.join((str(Path(module.__file__).parents[2]), mock_server.TESTS))
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": search},
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as run:
        assert run.stdout is not None
        pids = [int(run.stdout.readline()), int(note.read_text())]
        assert all(alive(pid) for pid in pids)
        os.killpg(run.pid, signal.SIGKILL)
        assert eventually(lambda: not any(alive(pid) for pid in pids))


def test_a_server_that_dies_while_loading_is_reported_at_once_with_its_log_and_advice(tmp_path: Path) -> None:
    program = "import sys; print('loading'); print('CUDA out of memory', file=sys.stderr); sys.exit(3)"
    message = failure(serve(tmp_path, program=program, timeout_s=600))
    assert "'m' failed: it ended with exit code 3" in message
    assert "  | CUDA out of memory" in message and "Lower serving.gpu_memory_fraction, or" in message
    assert str(tmp_path / "logs" / "server.log") in message and "Command: " in message


def test_the_log_of_an_earlier_start_is_kept_but_is_no_news(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "server.log"
    log.parent.mkdir()
    log.write_text("CUDA out of memory\n")
    message = failure(serve(tmp_path, program="raise SystemExit('another reason')"))
    assert "another reason" in message and "out of memory" not in message and "gpu_memory_fraction" not in message
    assert log.read_text().startswith("CUDA out of memory\n")


def test_a_server_killed_while_loading_is_reported_at_once(tmp_path: Path) -> None:
    message = failure(serve(tmp_path, program="import os, signal; os.kill(os.getpid(), signal.SIGKILL)", timeout_s=600))
    assert "ended with exit code 137" in message and "| (empty)" in message


def test_a_command_that_cannot_be_started_is_reported(tmp_path: Path) -> None:
    server = serve(tmp_path)
    server.command = [str(tmp_path / "no-such-python")]
    assert "no-such-python" in failure(server)


@pytest.mark.parametrize("never", [("--unhealthy", 10**6), ("--unready", 10**6), ("--hang-first",)])
def test_a_server_that_never_gets_ready_is_given_up(tmp_path: Path, never: tuple[object, ...]) -> None:
    server = serve(tmp_path, *never, timeout_s=0.8)
    assert "it was not ready after" in failure(server)
    assert server.startup_s is None


def test_a_refused_first_completion_is_reported_with_the_servers_words(tmp_path: Path) -> None:
    program = (
        "import sys; from http.server import BaseHTTPRequestHandler, HTTPServer\n"
        "class Refuses(BaseHTTPRequestHandler):\n"
        "    def do_GET(self): self.send_response(200); self.end_headers()\n"
        "    def do_POST(self): self.send_error(400, 'no chat template')\n"
        "HTTPServer(('127.0.0.1', {port}), Refuses).serve_forever()"
    )
    server = serve(tmp_path)
    server.command = [sys.executable, "-c", program.format(port=server.port)]
    message = failure(server)
    assert "its first completion failed: HTTP 400" in message and "no chat template" in message


def test_a_taken_port_is_reported_before_anything_is_started(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        server = Server(FakeEngine(), CONFIG, tmp_path / "server.log", port=taken.getsockname()[1])
        assert f"port {server.port} is taken" in failure(server)
    assert server.pid is None and not server.log.exists()


def test_free_ports_are_free() -> None:
    check_port(free_port())
    assert max(free_port() for _ in range(200)) <= HIGHEST_PORT


def test_a_server_that_dies_later_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="ended with exit code 137"), serve(tmp_path) as server:
        process = psutil.Process(server.pid)
        process.kill()
        assert eventually(lambda: not alive(process))
        server.check()


def test_a_dead_server_cannot_be_flushed(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="ended with exit code 137"), serve(tmp_path) as server:
        process = psutil.Process(server.pid)
        process.kill()
        assert eventually(lambda: not alive(process))
        server.flush()


def test_a_server_that_does_not_flush_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeEngine, "flush_path", "/no-such-path")
    with serve(tmp_path) as server, pytest.raises(ServerError, match=r"did not empty its prefix cache.*404"):
        server.flush(timeout_s=0.3)


def test_a_server_that_holds_blocks_for_a_moment_is_asked_again(tmp_path: Path) -> None:
    with serve(tmp_path, "--unflushed", 2) as server:
        server.flush()


def test_a_flush_that_answers_200_and_failed_is_no_flush(tmp_path: Path) -> None:
    with serve(tmp_path, "--unflushed", 1000) as server, pytest.raises(ServerError, match=r"it answered .*false"):
        server.flush(timeout_s=0.3)


@pytest.mark.parametrize(
    ("engine", "answer", "flushed"),
    [
        ("vllm", b'{"success": true}', True),
        ("vllm", b'{"success": false}', False),
        ("vllm", b"", False),
        ("vllm", b"[]", False),
        ("sglang", b"Cache flushed.\nPlease check backend logs", True),
        ("sglang", b"Flush cache failed.", False),
    ],
)
def test_each_engine_says_in_its_own_words_that_its_cache_is_empty(engine: str, answer: bytes, flushed: bool) -> None:
    assert ENGINES[engine].has_flushed(answer) == flushed


def test_the_environment_has_the_engines_variables_no_token_and_no_foreign_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*module.UNSET_VARIABLES, "UNTOUCHED"):
        monkeypatch.setenv(name, f"value-of-{name}")
    with serve(tmp_path) as server:
        variables = psutil.Process(server.pid).environ()
    assert variables["FAKE_ENGINE"] == "here" and variables["UNTOUCHED"] == "value-of-UNTOUCHED"
    assert "HF_TOKEN" in module.UNSET_VARIABLES and not set(module.UNSET_VARIABLES) & set(variables)


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://{HOST}:{free_port()}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)  # urlopen's own, which has read the environment once
    with serve(tmp_path, timeout_s=20) as server:
        assert server.post("/reset_prefix_cache") == b'{"success": true}'


def test_the_tail_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert tail(log) == []
    log.write_bytes(b"".join(b"line %d\n" % i for i in range(20000)) + b"\xff end")
    assert tail(log, lines=3) == ["line 19998", "line 19999", "\ufffd end"]
    assert tail(log, start=log.stat().st_size - 4) == [" end"]
