"""What tests of several folders share: one small real study, run to its end once a session, and what may be left."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml
from helpers.fake_nvml import Nvml
from helpers.mock_server import eventually
from helpers.run_harness import RunHarness
from rllm_serving.serving import gpus
from rllm_serving.serving.engines import ENGINES

ROOT = Path(__file__).parents[1]
SMALL = ROOT / "tests" / "data" / "small.yaml"
SLOW_PATHS = (
    *("cluster/", "engines/", "gpu/", "integration/test_faults", "integration/test_reruns"),
    "workflow/test_module_and_report",
    "workflow/test_endpoints",
)
SLOW_FIXTURES = {"engine_environments", "small_study", "fresh", "done"}
"""Tests at these paths, and those that use one of these fixtures, are marked slow; others mark themselves."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that build environments, start engines, or call the workflow or whole runs often."""
    for item in items:
        path = item.path.relative_to(ROOT / "tests").as_posix()
        if path.startswith(SLOW_PATHS) or SLOW_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


def snakemake(directory: Path, *arguments: str, config: Path = SMALL) -> list[str]:
    """Command line of the real workflow in `directory`, with the test suite's Python."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    command += ["--directory", str(directory), "--configfile", str(config), "--cores", "all"]
    return command + list(arguments)


def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, both outputs as one text."""
    return subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)  # type: ignore[call-overload, no-any-return]


def processes(text: str) -> list[psutil.Process]:
    """Live processes whose command line or environment mentions `text`."""
    matching = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *process.environ().values()]
        except psutil.Error:
            continue
        if process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE and any(text in w for w in words):
            matching.append(process)
    return matching


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """A word in the environment of all that a test starts; nothing that carries it may be left afterwards."""
    word = f"marked-{tmp_path}"
    monkeypatch.setenv("RLLM_SERVING_TEST_MARK", word)
    yield word
    assert eventually(lambda: not processes(word), 20), [p.cmdline() for p in processes(word)]


def folder_for(name: str, variable: str, factory: pytest.TempPathFactory) -> Path:
    """A new folder, or the one that an environment variable names, to keep what is made there for next time."""
    named = os.environ.get(variable)
    folder = Path(named) if named else factory.mktemp(name)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def study_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the small study and its environments are made.

    RLLM_SERVING_TEST_STUDY names a folder to keep them in between test sessions.
    """
    return folder_for("small-study", "RLLM_SERVING_TEST_STUDY", tmp_path_factory)


@pytest.fixture(scope="session")
def engine_environments(study_folder: Path) -> dict[str, Path]:
    """Engine -> its environment, built from its lock; the small study goes on with the same."""
    engines = yaml.safe_load(SMALL.read_text())["engines"]
    folders = {engine: f"resources/environments/{engine}-cpu" for engine in engines}
    done = run(snakemake(study_folder, *(f"{folder}/environment.json" for folder in folders.values())))
    assert done.returncode == 0, done.stdout[-6000:]
    return {engine: study_folder / folder for engine, folder in folders.items()}


@pytest.fixture(scope="session")
def small_study(study_folder: Path) -> Path:
    """Folder of the small study, run from nothing: environments built, models trained, served, graded, drawn."""
    done = run(snakemake(study_folder, "--resources", "gpu=1"))
    assert done.returncode == 0, done.stdout[-6000:]
    return study_folder


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with four GPUs, and no scheduler that has given out some; gives the folder of its locks."""
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(4))
    monkeypatch.setattr(gpus, "LOCKS", tmp_path / "locks")
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "locks"


@pytest.fixture
def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunHarness:
    """Files of a run over the fake engine, which is registered as long as the test lasts."""
    monkeypatch.setitem(ENGINES, "fake", ENGINES["vllm"])  # so that it is taken out again
    return RunHarness(tmp_path)
