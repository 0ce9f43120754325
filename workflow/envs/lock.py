"""Resolve the locks of this folder again: `python workflow/envs/lock.py [NAME ...]` (all of them by default).

NAME.in says what is wanted, NAME.override (optional) what its requirements are replaced by, NAME.txt is the lock.
The pins of an existing lock are kept as long as they fit; `--upgrade` takes the newest of everything.
Needs uv and a reachable PyPI, no GPU and no CUDA wheels.
"""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
# In this order: train-cpu.in takes its versions from vllm-cpu.txt.
NAMES = ("vllm-cpu", "sglang-cpu", "train-cpu", "vllm-cuda", "sglang-cuda")
# The build of torch in every CPU lock, without hash: it is not on PyPI, and the same version may be packed anew elsewhere.
TORCH_CPU = "torch==2.13.0+cpu"
HEADER = """\
# Made by lock.py from {name}.in; change that and run lock.py again.
"""
TORCH_NOTE = """\
# No hash: the +cpu build is not on PyPI, each machine takes it from its own source of PyTorch wheels.
"""


def lock(name: str, upgrade: bool) -> None:
    """Resolve `name`.in into `name`.txt for Python 3.11 on Linux x86-64, with a hash for every file on PyPI."""
    override = [f"--override={name}.override"] if (HERE / f"{name}.override").exists() else []
    target = HERE / f"{name}.txt"
    subprocess.run(
        ["uv", "pip", "compile", "--quiet", f"{name}.in", *override, "--python-version=3.11"]
        # SGLang's wheel asks for glibc 2.34.
        + ["--python-platform=x86_64-manylinux_2_34", "--generate-hashes", "--no-header", "--no-config"]
        + [f"--output-file={target.name}", *(["--upgrade"] if upgrade else [])],
        cwd=HERE,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    text = HEADER.format(name=name) + target.read_text()
    if name.endswith("-cpu"):
        text += TORCH_NOTE + TORCH_CPU + "\n"
    target.write_text(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--upgrade", action="store_true")
    options = parser.parse_args()
    for lock_name in options.names:
        lock(lock_name, options.upgrade)
        print(f"{lock_name}.txt")
