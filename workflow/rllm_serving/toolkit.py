"""What compiles kernels while a server runs: the CUDA toolkit of the engine's lock, and the machine's C++ compiler.

The engines compile kernels at first use. NVIDIA's wheels have the compiler, headers and libraries, but not the names
under which builds look for them: `complete` adds those, so that no toolkit of the machine takes part and every machine
compiles with the same one.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path

from .errors import UserError

COMPILERS = {"CC": "gcc", "CXX": "c++"}
"""Variable that may name a compiler -> what is called without it: by nvcc and Triton, by FlashInfer and TVM's FFI."""
CACHES = {
    "FLASHINFER_WORKSPACE_BASE": "flashinfer",
    "TVM_FFI_CACHE_DIR": "tvm-ffi",
    "TRITON_CACHE_DIR": "triton",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TILELANG_CACHE_DIR": "tilelang",
    "CUTE_DSL_CACHE_DIR": "cute-dsl",
    "HUMMING_CACHE_DIR": "humming",
    "QUACK_CACHE_DIR": "quack",
    "CUDA_CACHE_PATH": "driver",
}
"""Variable -> subfolder of the compiled kernels of one library, as read in vLLM 0.32's and SGLang 0.5.15's locks."""


STUB_LIBRARY = 34
"""CUDA_ERROR_STUB_LIBRARY, which NVIDIA's own stand-in for the driver's library answers to everything."""


class ToolkitError(UserError):
    """Kernels cannot be compiled on this machine; the message says what is missing and what to install."""


def check_compiler() -> None:
    """Raise ToolkitError where the machine has no C and C++ compiler."""
    called = [os.environ.get(variable) or name for variable, name in COMPILERS.items()]
    missing = [name for name in called if not shutil.which(shlex.split(name)[0])]
    if missing:
        raise ToolkitError(
            f"the engine compiles kernels, and {' and '.join(missing)} cannot be found on PATH: install a C++ compiler "
            "(Debian and Ubuntu: apt-get install g++; without root: conda install -c conda-forge gxx)"
        )


def cxx() -> list[str]:
    """The machine's C++ compiler, as words of a command: the variable may also name a wrapper of it."""
    return shlex.split(os.environ.get("CXX") or COMPILERS["CXX"])


def check_headers(include: Path) -> None:
    """Raise ToolkitError where a Python lacks its headers (in `include`), which Triton builds its kernels with."""
    if not (include / "Python.h").exists():
        raise ToolkitError(
            f"the engine compiles kernels, and {include}/Python.h is missing: install Python's headers (Debian and "
            "Ubuntu: apt-get install python3.11-dev), or use a Python that has them (uv python install 3.11, conda)"
        )


def cuda_home(environment: Path) -> Path | None:
    """Absolute folder of the CUDA toolkit in an environment; None where its lock has none."""
    found = sorted(environment.absolute().glob("lib/python*/site-packages/nvidia/cu[0-9]*/bin/nvcc"))
    return found[-1].parents[1] if found else None


def complete(home: Path) -> tuple[list[str], str]:
    """Give a toolkit of wheels the names that a toolkit has: `lib64`, and libraries without their version.

    Returns:
        The command that builds what is left, a stand-in for the driver's libcuda.so to link against on machines that
        have no driver or only its libcuda.so.1, and the source for its standard input.
    """
    library = home / "lib"
    _link(home / "lib64", "lib")
    for file in sorted(library.glob("lib*.so.*")):
        _link(library / f"{file.name.partition('.so.')[0]}.so", file.name)
    (library / "stubs").mkdir(exist_ok=True)
    # With all of the driver's functions: linkers drop a library that has none of those that are called.
    names = sorted(set(re.findall(r"\bcu[A-Z]\w*", (home / "include" / "cuda.h").read_text())))
    options = ["-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-x", "c++", "-"]
    source = "".join(f"int {name}(void) {{ return {STUB_LIBRARY}; }}\n" for name in names)
    return [*cxx(), *options, "-o", str(library / "stubs" / "libcuda.so")], f'extern "C" {{\n{source}}}\n'


def _link(link: Path, target: str) -> None:
    if not link.exists():
        link.unlink(missing_ok=True)
        link.symlink_to(target)


def cuda_variables(environment: Path) -> dict[str, str]:
    """Variables that name the CUDA toolkit of an environment; none where it has none."""
    home = cuda_home(environment)
    return {"CUDA_HOME": str(home), "CUDA_PATH": str(home)} if home else {}


def search_path(environment: Path) -> dict[str, str]:
    """PATH, by which a program finds the tools of its environment (ninja, nvcc) before the machine's."""
    home = cuda_home(environment)
    folders = [environment.absolute() / "bin", *([home / "bin"] if home else [])]
    return {"PATH": os.pathsep.join([*map(str, folders), os.environ.get("PATH", os.defpath)])}


def caches(folder: Path, more: Mapping[str, str]) -> dict[str, str]:
    """Variables that keep compiled kernels below `folder`: those of CACHES, and `more` of an engine's own."""
    return {variable: str(folder / name) for variable, name in {**CACHES, **more}.items()}
