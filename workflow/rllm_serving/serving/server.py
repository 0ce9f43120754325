"""A server as a context manager: started, ready once it has answered a request, stopped with all its processes."""

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
from typing import Any, Self

from .. import toolkit
from ..errors import UserError
from ..lifetime import supervisor
from ..lifetime.workflow import workflow_ancestors
from .engines import Engine, ServerConfig
from .gpus import NO_GPUS, GpuLease
from .kernel_cache import KernelCache

LOG_TAIL_LINES = 40
UNSET_VARIABLES = (
    *("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "PYTHONPATH", "VIRTUAL_ENV"),
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "NUMEXPR_NUM_THREADS"),
)
"""The engines serve local folders: they need no token, and no library of the workflow's own environment. Snakemake
sets the thread variables to a job's threads; torch takes the largest, and vLLM's worker, pinned to one core, then has
two threads that wait for each other by spinning on it: 2.8 tokens/s instead of hundreds."""
HIGHEST_PORT = 55_000
"""SGLang derives further ports by adding up to 10,000 to its own, and refuses to start where that leaves the range."""

_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
"""Open a URL of this machine, without the proxies that the environment may name."""


class ServerError(UserError):
    """A server did not start, or died; the message has the end of its log and what to do."""


def free_port() -> int:
    """Find a free TCP port of the loopback interface, at most HIGHEST_PORT."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port <= HIGHEST_PORT:
            return port


def check_port(port: int) -> None:
    """Raise ServerError when `port` is taken: an engine would load its model first and then hang."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ServerError(f"port {port} is taken ({error.strerror}): end the process that listens on it") from None


def tail(log: Path, start: int = 0, lines: int = LOG_TAIL_LINES) -> list[str]:
    """Read the last lines of a log file from byte `start` on (of at most its last 64 KiB)."""
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(max(start, log.stat().st_size - 65536))
        return file.read().decode("utf-8", "replace").splitlines()[-lines:]
    return []


class Server:
    """One engine process tree: ``with Server(engine, config, log) as server`` yields it ready to answer.

    Attributes:
        engine: the engine.
        config: what it is started with.
        log: file that its output is appended to.
        startup_timeout_s: how long it may take to become ready; then, and when it dies, entering raises ServerError.
        port: its TCP port.
        niceness: by how much its priority is lowered.
        gpus: the GPUs that it sees; they stay locked until it is gone.
        url: its address.
        command: its command line.
        kernels: where the kernels are kept that it compiles; None: it has no CUDA toolkit.
        environment: variables that are set for it.
        startup_s: seconds from its start to the first completion.
        compiled: files that were compiled in that time; None: not known.
        pid: id of its first process.
    """

    def __init__(
        self,
        engine: Engine,
        config: ServerConfig,
        log: Path,
        startup_timeout_s: float = 1800.0,
        port: int | None = None,
        niceness: int = 0,
        gpus: GpuLease = NO_GPUS,
    ) -> None:
        self.engine, self.config, self.log = engine, config, log
        self.startup_timeout_s, self.niceness, self.gpus = startup_timeout_s, niceness, gpus
        self.port = free_port() if port is None else port
        self.url = f"http://127.0.0.1:{self.port}"
        self.command = engine.command(config, self.port)
        environment = config.python.absolute().parents[1]
        self.kernels = KernelCache.open(environment, [gpu.name for gpu in gpus.gpus], engine.caches)
        kept = self.kernels.variables if self.kernels else {}
        self.environment = {
            **engine.environment(config),
            **toolkit.cuda_variables(environment),
            **kept,
            **gpus.variables,
        }
        self.startup_s: float | None = None
        self.compiled: int | None = None
        self.pid: int | None = None
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    def __enter__(self) -> Self:
        check_port(self.port)
        before = self.kernel_files()
        started = time.monotonic()
        try:
            self._start()
            self._await_ready(started + self.startup_timeout_s)
        except BaseException:
            self.stop()
            raise
        self.startup_s = time.monotonic() - started
        if (after := self.kernel_files()) is not None and before is not None:
            self.compiled = len(after - before)
        return self

    def kernel_files(self) -> frozenset[Path] | None:
        """The compiled kernels that are kept for such servers; None where there is no place for them."""
        return self.kernels.files() if self.kernels else None

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self) -> None:
        variables = {k: v for k, v in os.environ.items() if k not in UNSET_VARIABLES}
        variables |= toolkit.search_path(self.config.python.absolute().parents[1]) | self.environment
        watch, grace = ",".join(map(str, workflow_ancestors())), str(self.engine.stop_grace_s)
        options = ["--watch", watch, "--grace", grace, "--nice", str(self.niceness)]
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._log_start = log.tell()  # lines of an earlier start say nothing about this one
            self._supervisor = subprocess.Popen(
                [sys.executable, supervisor.__file__, *options, "--", *self.command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=variables,
                # Open in the supervisor alone, not in the server: the GPUs are free once it has killed everything.
                pass_fds=self.gpus.locks,
                start_new_session=True,  # it must survive the killing of the run's process group
            )
        assert self._supervisor.stdout is not None
        pid = self._supervisor.stdout.readline()
        if not pid:
            raise self._error("its supervisor did not start it")
        self.pid = int(pid)

    def _await_ready(self, deadline: float) -> None:
        for is_ready in (self._healthy, self._completes):
            while not is_ready(max(1.0, deadline - time.monotonic())):
                self.check()
                if time.monotonic() > deadline:
                    raise self._error(f"it was not ready after {self.startup_timeout_s:.0f} s")
                time.sleep(0.2)

    def _healthy(self, timeout_s: float) -> bool:
        try:
            with _open(self.url + self.engine.health_path, timeout=min(5.0, timeout_s)) as response:
                return response.status == 200
        except (OSError, http.client.HTTPException):
            return False

    def _completes(self, timeout_s: float) -> bool:
        body = {
            "model": self.config.served_name,
            "messages": [{"role": "user", "content": "1"}],
            "max_tokens": 2,
            "temperature": 0,
        }
        try:
            answer = self.post("/v1/chat/completions", body, timeout_s=min(120.0, timeout_s))
        except urllib.error.HTTPError as error:
            raise self._error(f"its first completion failed: HTTP {error.code} {error.read(500)!r}") from None
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

    def get(self, path: str, timeout_s: float = 30.0) -> bytes:
        """GET a page of the server and return its bytes; raises urllib's errors."""
        with _open(self.url + path, timeout=timeout_s) as response:
            body: bytes = response.read()
            return body

    def log_text(self) -> str:
        """What this start of the server has written to its log so far."""
        with self.log.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode("utf-8", "replace")

    def flush(self, timeout_s: float = 10.0) -> None:
        """Empty the prefix cache; a server that still cleans up after its last request refuses for a moment.

        Raises:
            ServerError: when it refuses for longer than `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                answer = self.post(self.engine.flush_path)
                if self.engine.has_flushed(answer):
                    return
                refusal = f"it answered {answer[:200]!r}"
            except OSError as error:
                self.check()
                refusal = str(error)
            if time.monotonic() > deadline:
                raise ServerError(f"{self.engine.name} did not empty its prefix cache: {refusal}")
            time.sleep(0.1)

    def check(self, grace_s: float = 0.0) -> None:
        """Raise ServerError when the server's process is gone, or goes within `grace_s`."""
        if self._supervisor is None:
            return
        deadline = time.monotonic() + grace_s
        while self.pid is not None and supervisor.alive(self.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        if self.pid is not None and not supervisor.alive(self.pid):
            self._supervisor.wait()  # it kills what the server left behind and then exits with the server's code
        if self._supervisor.poll() is not None:
            raise self._error(f"it ended with exit code {self._supervisor.returncode}")

    def _error(self, reason: str) -> ServerError:
        lines: Sequence[str] = tail(self.log, self._log_start)
        advice = self.engine.advise(lines) or "Read the log above; the whole log is in that file."
        shown = "\n".join("  | " + line for line in lines) or "  | (empty)"
        return ServerError(
            f"the {self.engine.name} server for '{self.config.served_name}' failed: {reason}.\n"
            f"Command: {' '.join(self.command)}\nEnd of its log {self.log}:\n{shown}\n{advice}"
        )

    def stop(self) -> int | None:
        """Stop the server and everything it started; returns its exit code (None: never started). Safe to repeat."""
        if self._supervisor is None:
            return None
        assert self._supervisor.stdin is not None and self._supervisor.stdout is not None
        with contextlib.suppress(OSError):
            self._supervisor.stdin.close()
        code = self._supervisor.wait()
        self._supervisor.stdout.close()
        return code
