"""Checkouts of the workflow, and what the real Snakemake plans in them."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conftest import ROOT, run
from helpers.studies import COMPILING, TINY, write


@dataclass(frozen=True)
class Job:
    """A planned job: its rule, wildcards, resources and priority."""

    rule: str
    wildcards: dict[str, str]
    resources: dict[str, str]
    priority: int


def snakemake(checkout: Path, *arguments: str) -> str:
    """Both outputs of the workflow called in a checkout, as a user does."""
    ended = run([sys.executable, "-m", "snakemake", "--cores", "2", *arguments], cwd=checkout, env=COMPILING)
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


def plan(checkout: Path, *arguments: str, config: dict[str, Any] | None = None) -> list[Job]:
    """Jobs that a dry run lists, the targets' own left out; with `config`, of the study in that file instead."""
    if config is not None:
        arguments = (*arguments, "--configfile", str(write(config, checkout / "other.yaml")))
    said = snakemake(checkout, "-n", *arguments)
    blocks = re.findall(r"^(?:local)?rule (\w+):\n((?:    .*\n)+)", said, re.MULTILINE)
    assert blocks or "Nothing to be done" in said, said

    def pairs(key: str, block: str) -> dict[str, str]:
        line = re.search(rf"^    {key}: (.*)$", block, re.MULTILINE)
        return dict(pair.split("=", 1) for pair in line[1].split(", ")) if line else {}

    def priority(block: str) -> int:
        line = re.search(r"^    priority: (\d+)$", block, re.MULTILINE)
        return int(line[1]) if line else 0

    targets = ("all", "prepare", "aa")
    return [
        Job(rule, pairs("wildcards", block), pairs("resources", block), priority(block))
        for rule, block in blocks
        if rule not in targets
    ]


def rules(jobs: list[Job]) -> dict[str, int]:
    return dict(Counter(job.rule for job in jobs))


def environments(jobs: list[Job]) -> set[str]:
    """Environments that are to be built."""
    return {job.wildcards["environment"] for job in jobs if job.rule == "build_environment"}


def runs(jobs: list[Job], rule: str = "measure") -> set[str]:
    """Experiment and model of each planned job of a rule."""
    return {f"{job.wildcards['experiment']}/{job.wildcards['model']}" for job in jobs if job.rule == rule}


def sources(checkout: Path) -> list[Path]:
    """Files of a checkout that come with a clone."""
    folders = [checkout / "workflow", checkout / "resources" / "prompts", checkout / "config"]
    single = [checkout / "Snakefile", checkout / "resources" / "claims.yaml"]
    return [*single, *(file for folder in folders for file in folder.rglob("*") if file.is_file())]


@contextmanager
def edited(*files: Path) -> Iterator[None]:
    """A line more in each file, for a while; afterwards its time is the old one too, which Snakemake may look at."""
    before = {file: (file.read_text(), file.stat()) for file in files}
    for file, (text, _) in before.items():
        file.write_text(text + "\n# one line more\n")
    try:
        yield
    finally:
        for file, (text, status) in before.items():
            file.write_text(text)
            os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def new_checkout(checkout: Path) -> Path:
    """A checkout whose study is TINY, with nothing done yet."""
    for folder in ("workflow", "profiles", "resources/prompts"):
        shutil.copytree(ROOT / folder, checkout / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("Snakefile", "resources/claims.yaml"):
        shutil.copy2(ROOT / file, checkout / file)
    (checkout / "config").mkdir()
    write(TINY, checkout / "config" / "config.yaml")
    return checkout


def finish(checkout: Path) -> Path:
    """Write something as every output of a checkout and have Snakemake record how it came about."""
    summary = run([sys.executable, "-m", "snakemake", "--summary"], cwd=checkout, env=COMPILING).stdout
    outputs = [line.split("\t")[0] for line in summary.splitlines() if line.count("\t") == 5][1:]
    assert len(outputs) > 50
    for output in map(checkout.joinpath, outputs):
        output.parent.mkdir(parents=True, exist_ok=True)
        if output.name == "checkpoint":
            output.mkdir()
        else:
            output.write_text(f"{output}\n")
    snakemake(checkout, "--touch", "--forceall")
    return checkout
