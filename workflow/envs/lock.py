"""Resolve the environments again: `python workflow/envs/lock.py [NAME ...]` (all of them by default).

NAME.in says what is wanted, NAME.override (optional) what its requirements are replaced by, NAME.txt is the lock.
`workflow` stands for the workflow's own environment: the pins in pyproject.toml and in workflow.yaml.
Existing pins are kept as long as they fit; `--upgrade` takes the newest of everything.
Needs uv and a reachable PyPI, no GPU and no CUDA wheels.
"""

from __future__ import annotations

import argparse
import re
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
# In this order: train-cpu.in takes its versions from vllm-cpu.txt.
NAMES = (
    *("vllm-cpu", "sglang-cpu", "train-cpu", "quantize-cpu"),
    *("vllm-cuda", "sglang-cuda", "quantize-cuda", "workflow"),
)
# In every CPU lock, without hash: it is not on PyPI, and the same version may be packed anew elsewhere.
TORCH_CPU = """\
# No hash: the +cpu build is not on PyPI, each machine takes it from its own source of PyTorch wheels.
torch==2.13.0+cpu
"""
HEADER = "# Made by lock.py from {name}.in; change that and run lock.py again.\n"


def resolve(folder: Path, *arguments: str) -> str:
    """Resolve for Python 3.11 on Linux x86-64 (glibc 2.34, as SGLang's wheel asks for) and return the pins."""
    target = ("--python-version=3.11", "--python-platform=x86_64-manylinux_2_34", "--no-header")
    command = ["uv", "pip", "compile", "--quiet", *target, *arguments]
    return subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout


def lock_engine(name: str, upgrade: bool) -> None:
    """Resolve NAME.in into NAME.txt with a hash for every file on PyPI."""
    arguments = [f"{name}.in", f"--output-file={name}.txt", "--generate-hashes", "--no-config"]
    arguments += [f"--override={name}.override"] if (HERE / f"{name}.override").exists() else []
    resolve(HERE, *arguments, *["--upgrade"] * upgrade)
    target = HERE / f"{name}.txt"
    target.write_text(HEADER.format(name=name) + target.read_text() + TORCH_CPU * name.endswith("-cpu"))


def lock_workflow(upgrade: bool) -> None:
    """Write the resolved versions of pyproject.toml and its groups into its pins and into workflow.yaml."""
    root = HERE.parents[1]
    # Without the project's configuration its present pins do not count.
    arguments = ["pyproject.toml", "--group=dev", "--group=cluster", "--no-annotate", *["--no-config"] * upgrade]
    pins = sorted(line for line in resolve(root, *arguments).splitlines() if "==" in line)
    project = root / "pyproject.toml"
    listed = "".join(f'    "{pin}",\n' for pin in pins)
    opening = "constraint-dependencies = [\n"
    text = re.sub(rf"(?<={re.escape(opening)}).*?(?=^\])", lambda _: listed, project.read_text(), flags=re.M | re.S)
    project.write_text(text)
    recipe = HERE / "workflow.yaml"
    versions = dict(pin.split("==") for pin in pins)
    recipe.write_text(
        re.sub(
            r"- ([\w.-]+)(\[.*?\])?==\S+",
            lambda pin: f"- {pin[1]}{pin[2] or ''}=={versions[pin[1]]}",
            recipe.read_text(),
        )
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--upgrade", action="store_true")
    options = parser.parse_args()
    for lock_name in options.names:
        if lock_name == "workflow":
            lock_workflow(options.upgrade)
        else:
            lock_engine(lock_name, options.upgrade)
        print(f"{lock_name}: resolved")
