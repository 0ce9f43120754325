"""What tests of several folders share: one small real study, run to its end once a session."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SMALL = ROOT / "tests" / "data" / "small.yaml"


def snakemake(directory: Path, *arguments: str, config: Path = SMALL) -> list[str]:
    """Command line of the real workflow in `directory`, with the test suite's Python."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    command += ["--directory", str(directory), "--configfile", str(config), "--cores", "all"]
    return command + list(arguments)


def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, both outputs as one text."""
    return subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)  # type: ignore[call-overload, no-any-return]


@pytest.fixture(scope="session")
def small_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the small study, run from nothing: environment built, models trained, served, graded, drawn.

    RLLM_SERVING_TEST_STUDY names a folder to keep it in between test sessions.
    """
    kept = os.environ.get("RLLM_SERVING_TEST_STUDY")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("small-study")
    folder.mkdir(parents=True, exist_ok=True)
    done = run(snakemake(folder, "--resources", "gpu=1"))
    assert done.returncode == 0, done.stdout[-6000:]
    return folder
