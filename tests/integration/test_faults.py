"""Every fault through a whole run: its request fails with a reason, and no other request is affected."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import psutil
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from helpers import mock_server
from helpers.analysed import points
from helpers.fake_engine import METRICS_PAGE
from helpers.mock_server import MockServer, eventually
from helpers.run_harness import BUDGETS, FIRST_COMPLETION_TOKENS, POINTS, RUN, RunHarness
from helpers.sse_fixtures import ANSWER, FAULTS, FINE, MORE_FAULTS, OUTPUT_TOKENS, THOUGHTS
from rllm_serving.analysis import request_metrics
from rllm_serving.analysis.metrics import LATENCIES, TOKENS
from rllm_serving.analysis.server_data import ServerData
from rllm_serving.load.client import Client, HttpExchange
from rllm_serving.load.patterns import LOADS, batch
from rllm_serving.measurement import run
from rllm_serving.measurement.run import RunError
from rllm_serving.serving.engines import Engine, ServerConfig
from rllm_serving.serving.gpus import GpuLease
from rllm_serving.serving.server import ServerError
from rllm_serving.study.design import Load, Point, Run
from unit.load.test_client import EXPECTED, send

# Two batches: nothing is wrong in the first, faults are the first of the second.
COUNT, SIZE, TIMEOUT_S = 6, 3, 1.5
POINT = Point("sums", Load("batch", SIZE), 64, 0, COUNT)
# fault: status, http_status, words of the reason, whether tokens came before it
EVERY = EXPECTED | {
    "hang": ("timeout", 200, "no end after 1.5 s", True),
    "silent": ("timeout", None, "no end after 1.5 s", False),
    "drip": ("timeout", 200, "no end after 1.5 s", True),
    "loris": ("timeout", None, "no end after 1.5 s", False),
    "http-429": ("http", 429, "HTTP 429: too many requests", False),
    "http-500-close": ("http", 500, "HTTP 500: out of memory", False),
    "refused": ("connection", None, "cannot connect", False),
    "reset-in-head": ("connection", None, "lost before an answer", False),
    "half-event": ("truncated", 200, "without a finish reason", True),
    "cut-character": ("truncated", 200, "cut off before its end", True),
    "half-character": ("protocol", 200, "not a completion chunk: .*utf-8", True),
}
TOGETHER = [["hang", "silent"], ["drip", "loris"]]  # those that take until the time limit
CASES = [*TOGETHER, *([fault] for fault in EVERY if not any(fault in faults for faults in TOGETHER))]
STREAMS = 1000
PROMPT_ANSWER = json.dumps({"tokens": mock_server.PROMPT}).encode()


@pytest.fixture
def leaks(harness: RunHarness, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Runs are served from within this process; connections and tasks that they leave behind are listed here."""
    leaks: list[str] = []

    class Serve:
        """In place of a server's process, one in this process."""

        command: Sequence[str] = ()
        url, startup_s = "here", 0.0
        kernels = compiled = None

        def __init__(self, engine: Engine, config: ServerConfig, *_: object, niceness: int, gpus: GpuLease) -> None:
            self.engine, self.config, self.niceness, self.gpus = engine, config, niceness, gpus
            self.log, self.pid = harness.paths.server_log, os.getpid()
            self.environment: dict[str, str] = {}

        def __enter__(self) -> Self:
            self.log.touch()
            with harness.record.open("a") as record:
                record.write(json.dumps({"max_tokens": FIRST_COMPLETION_TOKENS}) + "\n")
            self.server = MockServer(METRICS_PAGE, faults=harness.faults, record=harness.record).__enter__()
            self.port = self.server.port
            return self

        def __exit__(self, *_: object) -> None:
            if not eventually(lambda: self.server.open == 0):
                leaks.append(f"{self.server.open} connections")
            self.server.__exit__()

        def post(self, *_: object) -> bytes:
            return PROMPT_ANSWER

        def get(self, *_: object) -> bytes:
            return b""

        def log_text(self) -> str:
            return ""

        def flush(self, *_: object) -> None:
            pass

        check = kernel_files = flush

    async def counted(client: Client, requests: Sequence[bytes], size: int) -> list[tuple[HttpExchange, int | None]]:
        before = asyncio.all_tasks()
        exchanges = await batch(client, requests, size)
        leaks.extend(str(task) for task in asyncio.all_tasks() - before)
        return exchanges

    monkeypatch.setattr(run, "Server", Serve)
    monkeypatch.setitem(LOADS, "batch", counted)
    return leaks


def under(max_failed_rate: float) -> Run:
    changed = {"request_timeout_s": TIMEOUT_S, "max_failed_rate": max_failed_rate}
    return replace(RUN, points=(POINT,), measurement={**RUN.measurement, **changed})


def assert_unmoved(row: dict[str, Any], duration_s: float) -> None:
    assert (row["status"], row["http_status"], row["error"], row["finish_reason"]) == ("ok", 200, None, "stop")
    assert (row["reasoning_text"], row["answer_text"]) == ("".join(THOUGHTS), "".join(ANSWER))
    assert [row[f"{kind}_tokens"] for kind in ("prompt", "output", "reasoning", "answer")] == [11, 9, 5, 2]
    assert sum(row["chunk_tokens"]) == OUTPUT_TOKENS and row["chunk_times"] == sorted(row["chunk_times"])
    times = [row[name] for name in ("scheduled", "sent", "first_token", "first_visible_token", "last_token")]
    assert [0, *times, duration_s] == sorted([0, *times, duration_s])


def test_every_fault_is_followed_through_a_run() -> None:
    assert set(EVERY) == set(FAULTS) | set(MORE_FAULTS)


@pytest.mark.parametrize("faults", CASES, ids="+".join)
def test_a_fault_costs_its_request_and_nothing_beside_it(
    faults: list[str], harness: RunHarness, leaks: list[str]
) -> None:
    harness.fail(**{f"q{SIZE + index}_64": fault for index, fault in enumerate(faults)})
    with pytest.raises(RunError, match=f"{len(faults)} of {COUNT} failed") as caught:
        harness.execute(under(0))
    assert harness.outputs() == [False] * 3 and harness.journaled() == []
    # Only a request whose connection was closed before any byte of an answer is sent again, and that once.
    assert harness.measured() == {64: COUNT + (faults == ["drop"])}
    files = psutil.Process().num_fds()
    harness.execute(under(len(faults) / COUNT))
    assert not leaks and eventually(lambda: psutil.Process().num_fds() == files)

    rows = pq.read_table(harness.paths.requests).to_pylist()
    [entry] = json.loads(harness.paths.record.read_text())["points"]
    broken = rows[SIZE : SIZE + len(faults)]
    for fault, row in zip(faults, broken, strict=True):
        status, http_status, reason, begun = EVERY[fault]
        assert (row["status"], row["http_status"], row["last_token"]) == (status, http_status, None)
        assert re.search(reason, row["error"]) and re.search(f"{status}: .*{reason}", str(caught.value))
        assert (row["first_token"] is not None) == begun == bool(row["chunk_times"])
    for row in rows:
        if row not in broken:
            assert_unmoved(row, entry["duration_s"])

    table = request_metrics.read(harness.paths.requests)
    frame = request_metrics.latencies(table)
    assert frame.loc[~frame["completed"], ["end", "ttft", "ttfvt", "tpot", "e2e_latency"]].isna().all(axis=None)
    point = points(ServerData(table)).iloc[0]
    alone = points(ServerData(table.filter(pc.equal(table["status"], "ok")))).iloc[0]
    assert point[["num_requests", "completed", "failed"]].tolist() == [COUNT, COUNT - len(faults), len(faults)]
    numbers = [f"{name}_{stat}" for name in (*LATENCIES, *TOKENS) for stat in ("mean", "p50", "p99")]
    assert point[numbers].notna().all() and point[numbers].to_dict() == alone[numbers].to_dict()


def test_answers_that_come_in_odd_ways_are_no_failures(harness: RunHarness, leaks: list[str]) -> None:
    odd = ("leave", "two-in-one", "twenty-pieces", "drop-reused", "trickle", "empty-choices")
    harness.fail(**{f"q{index}_64": name for index, name in enumerate(odd)})
    harness.execute(under(0))
    [entry] = json.loads(harness.paths.record.read_text())["points"]
    for row in pq.read_table(harness.paths.requests).to_pylist():
        assert_unmoved(row, entry["duration_s"])
    assert set(odd) <= set(FINE) and not leaks


def test_a_connection_that_was_given_up_carries_no_other_request() -> None:
    with MockServer() as server:
        outcomes = send(server.port, ["hang", "drip", "not-http", "ok", "ok", "ok"], size=3, timeout_s=TIMEOUT_S)
        assert server.accepted == 6
    assert [outcome.status for _, outcome in outcomes] == ["timeout", "timeout", "protocol", "ok", "ok", "ok"]


def test_a_server_that_dies_within_its_streams_ends_the_run_however_many_may_fail(harness: RunHarness) -> None:
    harness.fail(q4_64="die-halfway")
    with pytest.raises(ServerError, match="ended with exit code 7"):
        harness.execute(under(1))
    assert harness.outputs() == [False] * 3 and harness.journaled() == []


def test_a_thousand_streams_at_once_come_back_each_with_its_own_answer() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = 2 * STREAMS + 200  # the server's ends are files of this process, too
    if resource.RLIM_INFINITY != hard < need:
        pytest.skip(f"this process may open {hard} files, {need} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft if soft == resource.RLIM_INFINITY else max(soft, need), hard))
    try:
        with MockServer(width=STREAMS, total=STREAMS) as server:  # nothing is answered until all are there
            files = psutil.Process().num_fds()
            outcomes = send(server.port, [f"{number} echo" for number in range(STREAMS)], timeout_s=60)
            assert eventually(lambda: server.open == 0 and psutil.Process().num_fds() == files)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert max(flying for _, _, flying in server.log) == STREAMS == server.accepted
    for number, (exchange, outcome) in enumerate(outcomes):
        assert (outcome.status, outcome.error, outcome.output_tokens) == ("ok", None, OUTPUT_TOKENS)
        assert outcome.answer_text == f"**{number} ✓**" and outcome.reasoning_text == "".join(THOUGHTS)
        times: list[Any] = [
            exchange.scheduled,
            exchange.sent,
            *outcome.chunk_times,
            outcome.last_token,
            exchange.closed,
        ]
        assert times == sorted(times)


def child(program: str, *arguments: object, before: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """A program that finds what this test finds; before: a command that takes its command as arguments."""
    search = os.pathsep.join((str(Path(run.__file__).parents[2]), mock_server.TESTS))
    command = [*before, sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, env=os.environ | {"PYTHONPATH": search}, capture_output=True, text=True, timeout=120)


KILLED = """
import itertools, os, signal, sys
from pathlib import Path
from helpers.run_harness import RunHarness
fsync, written = os.fsync, itertools.count(1)
os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL) if next(written) == int(sys.argv[2]) else fsync(file)
RunHarness(Path(sys.argv[1])).execute()
"""


# The marker of the journal, three files of each of three points, then the three files of the run.
@pytest.mark.parametrize(("write", "completed"), [(3, 0), (7, 1), (12, 3)])
def test_a_kill_while_a_file_is_written_costs_one_point_at_most(
    write: int, completed: int, harness: RunHarness, leaks: list[str]
) -> None:
    assert child(KILLED, harness.folder, write).returncode == -signal.SIGKILL
    named = str(harness.record)  # on the command lines of the server and of its supervisor
    assert eventually(lambda: not any(named in (p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"])))
    assert harness.journaled() == sorted(point.name for point in POINTS[:completed])
    assert harness.measured() == dict.fromkeys(BUDGETS[: completed + 1], 4)
    harness.execute()
    assert harness.measured() == dict.fromkeys(BUDGETS[completed:], 4)
    assert harness.outputs() == [True] * 3 and not harness.paths.partial.exists()
    assert pq.read_table(harness.paths.requests)["budget"].to_pylist() == [b for b in BUDGETS for _ in range(4)]


FULL = """
import contextlib, json, os, sys
from pathlib import Path
from helpers.run_harness import POINTS, RunHarness
from rllm_serving.measurement.journal import Journal
harness, add = RunHarness(Path(sys.argv[1])), Journal.add
filler = harness.folder / "runs" / "filler"
def add_and_fill(journal, point, *rest):
    add(journal, point, *rest)
    if point in (POINTS[0].name, POINTS[-1].name):
        file = os.open(filler, os.O_CREAT | os.O_WRONLY)
        with contextlib.suppress(OSError):
            while os.write(file, bytes(4096)):
                pass
        os.close(file)
Journal.add = add_and_fill
for _ in range(3):
    message = ""
    try:
        harness.execute()
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
    print(json.dumps([message, list(harness.measured()), harness.journaled(), harness.outputs()]))
    filler.unlink(missing_ok=True)
"""


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> list[list[Any]]:
    """A run on a real file system that gets full after the first point, then after the last; freed after each."""
    folder = tmp_path_factory.mktemp("full")
    (folder / "runs").mkdir()
    if shutil.which("unshare") is None:
        pytest.skip("a small file system cannot be mounted: there is no unshare")
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    mount = 'mount -t tmpfs -o size=1m tmpfs "$0" && echo mounted && exec "$@"'
    done = child(FULL, folder, before=["unshare", "--mount", *user, "sh", "-c", mount, str(folder / "runs")])
    if not done.stdout.startswith("mounted"):
        pytest.skip(f"a small file system cannot be mounted: {done.stderr}")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()[1:]]


def test_a_full_disk_costs_the_point_that_was_to_be_written(full: list[list[Any]]) -> None:
    first, second, third = BUDGETS
    names = sorted(point.name for point in POINTS)
    assert [measured for _, measured, _, _ in full] == [[first, second], [second, third], []]
    assert [points for _, _, points, _ in full] == [[POINTS[0].name], names, []]
    assert [outputs for _, _, _, outputs in full] == [[False] * 3, [False] * 3, [True] * 3]
    assert full[-1][0] == ""


def test_a_full_disk_is_reported_with_what_to_do(full: list[list[Any]]) -> None:
    for message, *_ in full[:2]:
        assert "No space left on device" in message and message.startswith("WriteError: ")
        assert "runs" in message and "Finished points are kept; call snakemake again" in message
