"""A server as a context manager: started, awaited until it really answers, watched, stopped with all it started."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from ..errors import UserError
from . import supervisor
from .engines import Engine, ServerConfig
from .gpus import NO_GPUS, GpuLease

LOG_TAIL_LINES = 40
UNSET_VARIABLES = (
    *("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "PYTHONPATH", "VIRTUAL_ENV"),
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "NUMEXPR_NUM_THREADS"),
)
"""The engines serve local folders: they need no token, and no library of the workflow's own environment. Snakemake
sets the thread variables to a job's threads; torch takes the largest, and vLLM's worker, pinned to one core, then has
two threads that wait for each other by spinning on it: 2.8 tokens/s instead of hundreds."""


_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
"""Opens URLs of this machine: a proxy that the environment names must not be asked for them."""


class ServerError(UserError):
    """A server that did not start, or died; the message carries the end of its log and what to do."""


HIGHEST_PORT = 55_000
"""SGLang derives further ports by adding up to 10,000 to its own, and refuses to start where that leaves the range."""


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on, at most HIGHEST_PORT."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port <= HIGHEST_PORT:
            return port


def check_port(port: int) -> None:
    """Raise ServerError when somebody listens on `port`: an engine would load its model first and then hang."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ServerError(f"port {port} is taken ({error.strerror}): end the process that listens on it") from None


def workflow_ancestors() -> list[int]:
    """This process and its ancestors up to the workflow's main process: whose death must end the server.

    Ancestors beyond the outermost one that runs Snakemake (a shell, a terminal) may go away without harm.
    """
    chain = [psutil.Process()]
    workflow = 0
    for process in psutil.Process().parents():
        chain.append(process)
        try:
            arguments = process.cmdline()
        except psutil.Error:
            break
        if any(Path(argument).name.startswith("snakemake") for argument in arguments[:4]):
            workflow = len(chain) - 1
    return [process.pid for process in chain[: workflow + 1]]


def tail(log: Path, start: int = 0, lines: int = LOG_TAIL_LINES) -> list[str]:
    """The last lines of a log file from byte `start` on (of at most its last 64 KiB)."""
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(max(start, log.stat().st_size - 65536))
        return file.read().decode("utf-8", "replace").splitlines()[-lines:]
    return []


class Server:
    """One engine process tree: ``with Server(engine, launch, log) as server`` yields it ready to answer.

    niceness: by how much its priority is lowered; gpus: those that it sees, and that stay locked until it is gone.
    Attributes: url, port, command, environment (variables that are set for it), startup_s (seconds from start to the
    first real completion), pid of the server's first process. Raises ServerError when it dies or does not get ready
    in time.
    """

    def __init__(
        self,
        engine: Engine,
        launch: ServerConfig,
        log: Path,
        startup_timeout_s: float = 1800.0,
        port: int | None = None,
        niceness: int = 0,
        gpus: GpuLease = NO_GPUS,
    ) -> None:
        self.engine, self.launch, self.log = engine, launch, log
        self.startup_timeout_s, self.niceness, self.gpus = startup_timeout_s, niceness, gpus
        self.port = free_port() if port is None else port
        self.url = f"http://127.0.0.1:{self.port}"
        self.command = engine.command(launch, self.port)
        self.environment = engine.environment(launch) | gpus.variables
        self.startup_s: float | None = None
        self.pid: int | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    def __enter__(self) -> Self:
        check_port(self.port)
        started = time.monotonic()
        try:
            self._start()
            self._await_ready(started + self.startup_timeout_s)
        except BaseException:
            self.stop()
            raise
        self.startup_s = time.monotonic() - started
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self) -> None:
        variables = {k: v for k, v in os.environ.items() if k not in UNSET_VARIABLES}
        variables |= self.environment
        watch, grace = ",".join(map(str, workflow_ancestors())), str(self.engine.stop_grace_s)
        options = ["--watch", watch, "--grace", grace, "--nice", str(self.niceness)]
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._log_start = log.tell()  # what an earlier start left there is no news of this one
            self._guard = subprocess.Popen(
                [sys.executable, supervisor.__file__, *options, "--", *self.command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=variables,
                # Kept open by the guard alone, not by the server: the GPUs are free when the guard has cleared up.
                pass_fds=self.gpus.locks,
                start_new_session=True,  # killing the run's whole process group must leave the guard to its work
            )
        assert self._guard.stdout is not None
        first = self._guard.stdout.readline()
        if not first:
            raise self._dead("its guard did not start it")
        self.pid = int(first)

    def _await_ready(self, deadline: float) -> None:
        for question in (self._healthy, self._completes):
            while not question(max(1.0, deadline - time.monotonic())):
                self.check()
                if time.monotonic() > deadline:
                    raise self._dead(f"it was not ready after {self.startup_timeout_s:.0f} s")
                time.sleep(0.2)

    def _healthy(self, left_s: float) -> bool:
        try:
            with _open(self.url + self.engine.health_path, timeout=min(5.0, left_s)) as response:
                return response.status == 200
        except (OSError, http.client.HTTPException):
            return False

    def _completes(self, left_s: float) -> bool:
        body = {
            "model": self.launch.served_name,
            "messages": [{"role": "user", "content": "1"}],
            "max_tokens": 2,
            "temperature": 0,
        }
        try:
            answer = self.post("/v1/chat/completions", body, timeout_s=min(120.0, left_s))
        except urllib.error.HTTPError as error:
            raise self._dead(f"its first completion failed: HTTP {error.code} {error.read(500)!r}") from None
        except (OSError, http.client.HTTPException):
            return False
        return bool(json.loads(answer)["choices"])

    def post(self, path: str, body: Any = None, timeout_s: float = 30.0) -> bytes:
        """POST a JSON body to the server and return the answer's bytes; raises urllib's errors."""
        data = b"" if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, data=data, headers={"Content-Type": "application/json"}, method="POST"
        )
        with _open(request, timeout=timeout_s) as response:
            return response.read()

    def flush(self, patience_s: float = 10.0) -> None:
        """Empty the prefix cache, waiting for a server that has not yet put away its last request.

        Raises ServerError when the server refuses for longer than `patience_s`.
        """
        deadline = time.monotonic() + patience_s
        while True:
            try:
                self.post(self.engine.flush_path)
                return
            except OSError as error:
                self.check()
                if time.monotonic() > deadline:
                    raise ServerError(f"{self.engine.name} did not empty its prefix cache: {error}") from None
            time.sleep(0.1)

    def check(self, patience_s: float = 0.0) -> None:
        """Raise ServerError when the server's process is gone, or goes within `patience_s`."""
        if self._guard is None:
            return
        deadline = time.monotonic() + patience_s
        while self.pid is not None and supervisor.alive(self.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        if self.pid is not None and not supervisor.alive(self.pid):
            self._guard.wait()  # it is clearing up after the server and then tells its exit code
        if self._guard.poll() is not None:
            raise self._dead(f"it ended with exit code {self._guard.returncode}")

    def _dead(self, why: str) -> ServerError:
        lines: Sequence[str] = tail(self.log, self._log_start)
        advice = self.engine.advise(lines) or "Read the log above; --until and the server's log tell more."
        shown = "\n".join("  | " + line for line in lines) or "  | (empty)"
        return ServerError(
            f"the {self.engine.name} server for '{self.launch.served_name}' failed: {why}.\n"
            f"Command: {' '.join(self.command)}\nEnd of its log {self.log}:\n{shown}\n{advice}"
        )

    def stop(self) -> int | None:
        """Stop the server and everything it started; returns its exit code. Safe to call twice."""
        if self._guard is None:
            return None
        assert self._guard.stdin is not None and self._guard.stdout is not None
        with contextlib.suppress(OSError):
            self._guard.stdin.close()
        code = self._guard.wait()
        self._guard.stdout.close()
        return code
