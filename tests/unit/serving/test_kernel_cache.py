"""Compiled kernels: kept per environment and kind of GPU, and never part of a measured start."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.cuda_environments import cuda_environment
from helpers.fake_engine import FakeEngine
from rllm_serving.serving.engines import Options, ServerConfig
from rllm_serving.serving.gpus import Gpu, GpuLease
from rllm_serving.serving.kernel_cache import KernelCache
from rllm_serving.serving.server import Server
from rllm_serving.serving.warm_start import compiled_since, warm_server
from rllm_serving.toolkit import ToolkitError

LEASE = GpuLease((Gpu("u", "0", "NVIDIA H100 80GB HBM3"),))


class Compiling(FakeEngine):
    """Compiles into its cache what is not there yet, then serves."""

    caches = {"FAKE_CACHE": "fake"}  # noqa: RUF012

    def command(self, config: ServerConfig, port: int) -> list[str]:
        serve = super().command(config, port)
        program = (
            "import os, sys; from pathlib import Path; folder = Path(os.environ['FAKE_CACHE']); "
            "folder.mkdir(parents=True, exist_ok=True); (folder / 'kernel.so').touch(); (folder / 'a.log').touch(); "
            "os.execv(sys.argv[1], sys.argv[1:])"
        )
        return [sys.executable, "-c", program, *serve]


def starter(environment: Path, folder: Path) -> Callable[[], Server]:
    (environment / "bin").mkdir(exist_ok=True)
    config = ServerConfig(environment / "bin" / "python", Path("model"), None, "m", "cuda", Options(), None, False, 1)
    return lambda: Server(Compiling(), config, folder / "server.log", 60, gpus=LEASE)


def test_a_place_for_each_kind_of_gpu(tmp_path: Path) -> None:
    environment = cuda_environment(tmp_path / "env")
    cache = KernelCache.open(environment, ["NVIDIA H100 80GB HBM3"] * 2, {"OWN": "own"})
    assert cache is not None and cache.folder == environment / "kernels" / "NVIDIA-H100-80GB-HBM3"
    assert cache.variables["OWN"] == str(cache.folder / "own") and cache.folder.is_dir()
    other = KernelCache.open(environment, ["NVIDIA A100", "NVIDIA H100"], {})
    assert other is not None and other.folder.name == "NVIDIA-A100+NVIDIA-H100"
    assert KernelCache.open(tmp_path, ["NVIDIA A100"], {}) is None


def test_a_place_where_nothing_can_be_written_is_told(tmp_path: Path) -> None:
    environment = cuda_environment(tmp_path / "env")
    (environment / "kernels").write_text("a file in the way")
    with pytest.raises(ToolkitError, match=r"cannot be kept in .*kernels/NVIDIA-A100"):
        KernelCache.open(environment, ["NVIDIA A100"], {})


def test_only_what_is_compiled_counts(tmp_path: Path) -> None:
    cache = KernelCache.open(cuda_environment(tmp_path), ["g"], {})
    assert cache is not None and cache.files() == frozenset()
    (cache.folder / "triton" / "a").mkdir(parents=True)
    for name in ("k.cubin", "k.json", "k.so", "build.lock", "jit.log", "graph"):
        (cache.folder / "triton" / "a" / name).touch()
    assert {file.name for file in cache.files()} == {"k.cubin", "k.so", "graph"}


def test_a_server_that_compiles_is_started_again_and_only_the_second_start_counts(tmp_path: Path) -> None:
    start = starter(cuda_environment(tmp_path / "env"), tmp_path)
    with warm_server(start, again=True) as (server, told):
        assert isinstance(server, Server) and server.environment["CUDA_HOME"].endswith("nvidia/cu13")
        assert told["startup_seconds"] == server.startup_s
        folder = tmp_path / "env" / "kernels" / "NVIDIA-H100-80GB-HBM3"
        assert told["kernel_cache"].items() >= {"folder": str(folder), "compiled": 0}.items()
        assert told["kernel_cache"]["cold_seconds"] > 0
        json.dumps(told)
    with warm_server(start, again=True) as (_, told):
        assert told["startup_seconds"] > 0 and told["kernel_cache"]["cold_seconds"] is None


def test_a_start_that_compiled_and_is_not_repeated_has_no_seconds(tmp_path: Path) -> None:
    with warm_server(starter(cuda_environment(tmp_path / "env"), tmp_path), again=False) as (server, told):
        assert told["startup_seconds"] is None
        assert told["kernel_cache"]["compiled"] == 1
        assert told["kernel_cache"]["cold_seconds"] == server.startup_s


def test_a_server_without_a_toolkit_is_started_once(tmp_path: Path) -> None:
    config = ServerConfig(Path(sys.executable), Path("model"), None, "m", "cpu", Options(), None, False, 1)
    servers = []

    def start() -> Server:
        servers.append(Server(FakeEngine(), replace(config), tmp_path / "server.log", 60))
        return servers[-1]

    with warm_server(start, again=True) as (server, told):
        assert told == {"startup_seconds": server.startup_s, "kernel_cache": None}
        assert server.compiled is None and compiled_since(server, server.kernel_files(), "p") is None
    assert len(servers) == 1


def test_what_is_compiled_while_a_point_runs_is_counted_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = starter(cuda_environment(tmp_path / "env"), tmp_path)()
    before = server.kernel_files()
    assert server.kernels is not None and compiled_since(server, before, "e, p") == 0
    (server.kernels.folder / "late.cubin").touch()
    with caplog.at_level(logging.WARNING):
        assert compiled_since(server, before, "e, p") == 1
    assert "e, p" in caplog.text
