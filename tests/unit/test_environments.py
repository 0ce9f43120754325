"""Environments: built from a lock, proven, recorded; the committed locks themselves."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import shutil
import stat
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import pytest
from conftest import run
from rllm_serving import environments
from rllm_serving.environments import EnvironmentBuildError, build, python, resolve_device, torch_source, versions
from rllm_serving.toolkit import ToolkitError

LOCKS = Path(environments.__file__).parents[1] / "envs"
NAMES = ("vllm-cpu", "sglang-cpu", "train-cpu", "quantize-cpu", "vllm-cuda", "sglang-cuda", "quantize-cuda")
# What uv says when there is no index to ask, rather than no answer.
NO_INDEX = re.compile(r"error sending request|dns error|[Cc]onnection refused|operation timed out")


def entries(name: str, folder: Path = LOCKS) -> dict[str, list[str]]:
    """{"package==version": its hashes} of a lock, a committed one unless told otherwise."""
    found: dict[str, list[str]] = {}
    for line in (folder / f"{name}.txt").read_text().splitlines():
        if line and line[0] not in " #":
            pin = line.removesuffix(" \\")
            found[pin] = []
        elif "--hash=" in line:
            found[pin].append(line.strip(" \\"))
    return found


def small_lock(folder: Path, *more: str, hashes: str | None = None) -> Path:
    """A lock of one small pure-Python package of PyPI (with its real hashes unless told otherwise) and `more`."""
    pin, real = next((pin, hashes) for pin, hashes in entries("train-cpu").items() if pin.startswith("h11=="))
    lock = folder / "small-cpu.txt"
    lock.write_text("\n".join([f"{pin} {hashes or ' '.join(real)}", *more, ""]))
    return lock


def wheel(folder: Path) -> Path:
    """A folder with a wheel that, like torch's CPU build, no index has, and that requires what no lock lists."""
    info = "localtorch-1.0+cpu.dist-info"
    files = {
        "localtorch.py": "import h11\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: localtorch\nVersion: 1.0+cpu\nRequires-Dist: left-out\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / "localtorch-1.0+cpu-py3-none-any.whl", "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return folder


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """(lock, environment, record) of a real small build where Python itself would write no bytecode."""
    folder = tmp_path_factory.mktemp("built")
    lock = small_lock(folder, "localtorch==1.0+cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONDONTWRITEBYTECODE", "1")
        record = build(lock, folder / "env", ["localtorch"], str(wheel(folder)), folder / "logs" / "build.log")
    return lock, folder / "env", record


@pytest.mark.slow
def test_build_installs_the_lock_and_records_it(built: tuple[Path, Path, dict[str, Any]]) -> None:
    lock, target, record = built
    assert set(record["packages"]) == {"h11", "localtorch"}
    assert record["packages"]["localtorch"] == "1.0+cpu"
    assert record["lock"] == "small-cpu.txt"
    assert record["lock_sha256"] == hashlib.sha256(lock.read_bytes()).hexdigest()
    assert record["device"] == "cpu"
    assert record["engine"] is None
    assert record["engine_version"] is None
    assert record["python"].startswith("3.11.")
    assert versions(target) == record
    assert python(target).exists()


@pytest.mark.slow
def test_bytecode_is_there_although_python_writes_none(built: tuple[Path, Path, dict[str, Any]]) -> None:
    sources = [file for name in ("h11", "localtorch*") for file in built[1].glob(f"lib/*/site-packages/{name}/**/*.py")]
    sources += built[1].glob("lib/*/site-packages/localtorch.py")
    assert len(sources) > 5
    assert [file for file in sources if not Path(importlib.util.cache_from_source(file)).exists()] == []


@pytest.mark.slow
def test_failed_build_leaves_no_record_and_shows_the_log(
    built: tuple[Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    target = tmp_path / "env"
    build(small_lock(tmp_path), target, ["h11"], None, tmp_path / "log")
    wrong = small_lock(tmp_path, hashes=f"--hash=sha256:{'0' * 64}")
    with pytest.raises(EnvironmentBuildError, match=r"small-cpu could not be built(.|\n)*The end of(.|\n)*0{64}"):
        build(wrong, target, ["h11"], None, tmp_path / "log")
    with pytest.raises(EnvironmentBuildError, match="not a complete environment"):
        versions(target)


def test_lock_without_hash_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentBuildError, match="--require-hashes"):
        build(small_lock(tmp_path, hashes=" "), tmp_path / "env", ["h11"], None, tmp_path / "log")


@pytest.mark.slow
def test_package_that_does_not_import_fails_the_build(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentBuildError, match=r"nowhere cannot be imported(.|\n)*No module named 'nowhere'"):
        build(small_lock(tmp_path), tmp_path / "env", ["h11", "nowhere"], None, tmp_path / "log")
    assert not (tmp_path / "env" / "environment.json").exists()


@pytest.mark.slow
def test_missing_torch_build_names_the_setting(tmp_path: Path) -> None:
    lock = small_lock(tmp_path, "localtorch==1.0+cpu")
    with pytest.raises(EnvironmentBuildError, match=r"Set torch_cpu_wheels .* has localtorch==1.0\+cpu"):
        build(lock, tmp_path / "env", ["h11"], str(tmp_path), tmp_path / "log")


def test_without_uv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("UV", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentBuildError, match="pip install uv"):
        build(small_lock(tmp_path), tmp_path / "env", ["h11"], None, tmp_path / "log")


def test_secrets_stay_out_of_log_and_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The uv that $UV names is used; here one that prints its environment, and fails when asked for torch."""
    uv = tmp_path / "uv"
    uv.write_text('#!/bin/sh\nenv\ncase "$*" in *localtorch*) exit 3;; esac\n')
    uv.chmod(uv.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("UV", str(uv))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    lock = small_lock(tmp_path, "localtorch==1.0+cpu")
    with pytest.raises(EnvironmentBuildError, match="torch_cpu_wheels") as caught:
        build(lock, tmp_path / "env", [], "https://user:password@wheels.example/simple", tmp_path / "log")
    said = (tmp_path / "log").read_text() + str(caught.value)
    assert "wheels.example" in said
    assert "password" not in said
    assert "hf_secret" not in said


COMPILES = """
import os, sys
found = os.environ["PATH"].split(os.pathsep)[0] == os.path.dirname(sys.executable)
sys.exit(0 if found and os.path.isdir(os.path.dirname(os.environ["TRITON_CACHE_DIR"])) else "no tools")
"""


@pytest.mark.slow
def test_an_environment_that_cannot_compile_is_none(tmp_path: Path) -> None:
    target = tmp_path / "env"
    record = build(small_lock(tmp_path), target, ["h11"], None, tmp_path / "log", COMPILES)
    assert record["compiler"] and versions(target)["compiler"] == record["compiler"]
    with pytest.raises(EnvironmentBuildError, match=r"no kernel can be compiled(.|\n)*nvcc fatal"):
        build(small_lock(tmp_path), target, ["h11"], None, tmp_path / "log", "raise SystemExit('nvcc fatal')")
    assert not (target / "environment.json").exists()
    assert build(small_lock(tmp_path), target, ["h11"], None, tmp_path / "log")["compiler"] is None


def test_without_a_compiler_nothing_is_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("UV", "/bin/false")
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ToolkitError, match=r"apt-get install g\+\+"):
        build(small_lock(tmp_path), tmp_path / "env", ["h11"], None, tmp_path / "log", COMPILES)
    assert not (tmp_path / "env").exists()


@pytest.mark.parametrize(
    ("setting", "variable", "expected"),
    [
        ("/wheels", "/other", ["--no-index", "--find-links", "/wheels"]),
        ("https://wheels.example/simple", "/other", ["--default-index", "https://wheels.example/simple"]),
        (None, "/a /b", ["--no-index", "--find-links", "/a", "--find-links", "/b"]),
        (None, "", ["--torch-backend", "cpu"]),
        (None, None, ["--torch-backend", "cpu"]),
    ],
)
def test_torch_source(
    setting: str | None, variable: str | None, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable is None:
        monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    else:
        monkeypatch.setenv("PIP_FIND_LINKS", variable)
    assert torch_source(setting) == expected


@pytest.mark.parametrize(("devices", "expected"), [(2, "cuda"), (0, "cpu"), ("no driver", "cpu"), (None, "cpu")])
def test_auto_device(devices: int | str | None, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`devices`: how many NVML counts, a text when its driver is missing, None when the package is."""
    nvml = types.ModuleType("pynvml")
    nvml.NVMLError = type("NVMLError", (Exception,), {})  # type: ignore[attr-defined]

    def init() -> None:
        if isinstance(devices, str):
            raise nvml.NVMLError(devices)

    nvml.nvmlInit = init  # type: ignore[attr-defined]
    nvml.nvmlShutdown = lambda: None  # type: ignore[attr-defined]
    nvml.nvmlDeviceGetCount = lambda: devices  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pynvml", None if devices is None else nvml)
    assert resolve_device("auto") == expected
    assert [resolve_device("cpu"), resolve_device("cuda")] == ["cpu", "cuda"]


def test_unknown_device() -> None:
    with pytest.raises(ValueError, match="'tpu' is not one of auto, cpu, cuda"):
        resolve_device("tpu")


@pytest.mark.parametrize("name", NAMES)
def test_lock_hashes_everything_but_the_cpu_build_of_torch(name: str) -> None:
    bare = [pin for pin, hashes in entries(name).items() if not hashes]
    assert bare == ([] if name.endswith("-cuda") else ["torch==2.13.0+cpu"])


@pytest.mark.parametrize("name", NAMES)
def test_lock_names_no_place(name: str) -> None:
    """No address, no folder, no option: a lock means the same on every machine."""
    text = (LOCKS / f"{name}.txt").read_text()
    assert re.findall(r"://|^-|\s@\s|(?<![\w-])/\w+/", text, re.MULTILINE) == []


def test_versions_agree_across_locks() -> None:
    pins = {name: dict(pin.split("==") for pin in entries(name)) for name in NAMES}
    assert pins["vllm-cpu"]["vllm-cpu"] == pins["vllm-cuda"]["vllm"]
    assert pins["sglang-cpu"]["sglang"] == pins["sglang-cuda"]["sglang"]
    assert pins["quantize-cpu"]["llmcompressor"] == pins["quantize-cuda"]["llmcompressor"]
    for package in ("transformers", "tokenizers", "safetensors", "torch"):
        assert pins["train-cpu"][package] == pins["vllm-cpu"][package]


@pytest.mark.parametrize("name", ["vllm-cuda", "sglang-cuda"])
def test_an_engines_lock_for_gpus_has_a_whole_toolkit_of_torchs_version(name: str) -> None:
    """Compiled by a newer one, kernels may ask for a newer driver than torch does."""
    pins = dict(pin.split("==") for pin in entries(name))
    parts = ("nvcc", "crt", "cccl", "runtime", "nvrtc")
    found = [pins[f"nvidia-cuda-{part}"] for part in parts] + [pins["nvidia-nvvm"]]
    assert {version.rpartition(".")[0] for version in found} == {"13.0"}
    assert "ninja" in pins


def test_bitsandbytes_is_there_for_both_engines_on_gpus() -> None:
    pins = {name: dict(pin.split("==") for pin in entries(name)) for name in ("vllm-cuda", "sglang-cuda")}
    assert pins["vllm-cuda"]["vllm-bnb-plugin"] == "0.0.3"
    assert pins["vllm-cuda"]["bitsandbytes"] == pins["sglang-cuda"]["bitsandbytes"]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_lock_resolves_to_itself(name: str, tmp_path: Path) -> None:
    """lock.py on a copy changes no version: what the lock lists is there, fits, and is all that its .in asks for."""
    folder = shutil.copytree(LOCKS, tmp_path / "envs", ignore=shutil.ignore_patterns("__pycache__"))
    done = run([sys.executable, str(folder / "lock.py"), name])
    if done.returncode and NO_INDEX.search(done.stdout):
        pytest.skip(f"no package index in reach: {done.stdout.strip()}")
    assert done.returncode == 0, done.stdout[-3000:]
    assert set(entries(name, folder)) ^ set(entries(name)) == set()
