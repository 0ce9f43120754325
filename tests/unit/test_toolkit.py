"""The tools that kernels are compiled with: found, completed, named; what a machine lacks is said."""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path

import pytest
from helpers.cuda_environments import cuda_environment
from rllm_serving import toolkit
from rllm_serving.toolkit import ToolkitError


def test_an_environment_without_a_toolkit_has_none(tmp_path: Path) -> None:
    assert toolkit.cuda_home(tmp_path) is None
    assert toolkit.cuda_variables(tmp_path) == {}
    assert toolkit.search_path(tmp_path)["PATH"] == f"{tmp_path}/bin{os.pathsep}{os.environ['PATH']}"


def test_the_environments_own_tools_come_before_the_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.setenv("CUDA_HOME", "/usr/local/cuda")
    monkeypatch.chdir(tmp_path)
    home = toolkit.cuda_home(cuda_environment(Path("env")))
    assert home == tmp_path / "env" / "lib" / "python3.11" / "site-packages" / "nvidia" / "cu13"
    assert toolkit.cuda_variables(Path("env")) == {"CUDA_HOME": str(home), "CUDA_PATH": str(home)}
    assert toolkit.search_path(Path("env"))["PATH"].split(os.pathsep) == [
        str(tmp_path / "env" / "bin"),
        str(home / "bin"),
        "/usr/bin",
    ]


def test_completing_gives_the_names_that_builds_look_for_and_can_be_repeated(tmp_path: Path) -> None:
    home = toolkit.cuda_home(cuda_environment(tmp_path))
    assert home is not None
    for _ in range(2):
        command, source = toolkit.complete(home)
        subprocess.run(command, input=source, text=True, check=True)
    assert (home / "lib64" / "libcudart.so").resolve() == home / "lib" / "libcudart.so.13"
    assert (home / "lib" / "libcublasLt.so").is_symlink() and not (home / "lib" / "libcudart_static.so").exists()
    # Linked against, it asks for the driver's own library; called, it says what it is.
    stand_in = home / "lib64" / "stubs" / "libcuda.so"
    assert b"libcuda.so.1" in stand_in.read_bytes()
    library = ctypes.CDLL(str(stand_in))
    assert library.cuInit() == library.cuMemAlloc_v2() == library.cuMemAlloc() == toolkit.STUB_LIBRARY
    assert not hasattr(library, "cuuint32_t")


def test_a_link_that_leads_nowhere_is_made_again(tmp_path: Path) -> None:
    home = toolkit.cuda_home(cuda_environment(tmp_path))
    assert home is not None
    (home / "lib64").symlink_to("gone")
    toolkit.complete(home)
    assert (home / "lib64" / "libcudart.so").exists()


def test_a_machine_without_a_compiler_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.delenv("CC", raising=False)
    toolkit.check_compiler()
    monkeypatch.setenv("CXX", "no-such-compiler -O2")
    with pytest.raises(ToolkitError, match=r"no-such-compiler.*apt-get install g\+\+.*conda-forge gxx"):
        toolkit.check_compiler()
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolkitError, match=r"gcc and c\+\+ cannot be found"):
        toolkit.check_compiler()


def test_a_python_without_headers_is_told_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(ToolkitError, match=r"Python\.h is missing.*python3\.11-dev"):
        toolkit.check_headers(tmp_path)
    (tmp_path / "Python.h").touch()
    toolkit.check_headers(tmp_path)


def test_every_cache_has_a_folder_of_its_own() -> None:
    variables = toolkit.caches(Path("/kept"), {"OWN_CACHE": "own"})
    assert variables["OWN_CACHE"] == "/kept/own" and variables["TRITON_CACHE_DIR"] == "/kept/triton"
    assert len(set(variables.values())) == len(toolkit.CACHES) + 1
