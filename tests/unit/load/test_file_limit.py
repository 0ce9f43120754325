"""As many connections as a load needs, whatever `ulimit -n` says: in processes with limits of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.mock_server import HOST, MockServer
from rllm_serving import load
from rllm_serving.load.file_limit import OTHER_FILES

COUNT = 100
PROCESS = """
import resource, sys
from functools import partial
from rllm_serving.errors import UserError
from rllm_serving.load import client
from rllm_serving.load.patterns import LOADS
from rllm_serving.load.requests import build_http_request

host, port, kind, size, count, soft, hard = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_NOFILE, (int(soft), int(hard)))
body = {"messages": [{"role": "user", "content": "ok"}], "stream": True}
requests = [build_http_request(host, int(port), "/v1/chat/completions", body)] * int(count)
pattern = partial(LOADS[kind], times=[0.0] * int(count)) if kind == "open" else LOADS[kind]
try:
    _, ended = client.run(host, int(port), requests, pattern, int(size), 30)
    print({exchange.failure for exchange, _ in ended}, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
except UserError as error:
    print(type(error).__name__, error)
"""


def said(kind: str, size: int, soft: int, hard: int) -> str:
    """What a load ends with whose requests are all answered once all that it sends at once are there."""
    width = COUNT if kind == "open" else size
    environment = os.environ | {"PYTHONPATH": str(Path(load.__file__).parents[2])}
    with MockServer(width=width, total=COUNT) as server:
        arguments = map(str, (HOST, server.port, kind, size, COUNT, soft, hard))
        command = [sys.executable, "-c", PROCESS, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize(("kind", "size"), [("closed", COUNT), ("batch", COUNT), ("open", 4)])
def test_the_soft_limit_is_raised_as_far_as_the_load_needs(kind: str, size: int) -> None:
    assert said(kind, size, soft=40, hard=1000) == f"{{None}} {COUNT + OTHER_FILES}"


def test_a_limit_that_is_high_enough_stays() -> None:
    assert said("closed", 4, soft=900, hard=1000) == "{None} 900"


@pytest.mark.parametrize(("kind", "size"), [("closed", COUNT), ("open", 4)])
def test_a_hard_limit_that_is_too_low_is_a_mistake_that_says_so(kind: str, size: int) -> None:
    line = said(kind, size, soft=60, hard=120)
    assert line.startswith("FileLimitError 100 requests at once need 164 open files, the limit of this process is 120")
    assert "`ulimit -n 164`" in line and "\n" not in line
