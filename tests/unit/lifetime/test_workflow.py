"""Jobs and what they start end with the workflow, really killed: children, and grandchildren in other sessions."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import rllm_serving
from helpers.mock_server import eventually
from rllm_serving.lifetime.supervisor import alive
from rllm_serving.lifetime.workflow import ends_with_workflow, supervised

LIBRARY = str(Path(rllm_serving.__file__).parents[1])
# Writes its id down and that of a grandchild in a session of its own; then it waits.
CHILD = """
import os, subprocess, sys, time
grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
with open({note!r} + ".part", "w") as file:
    file.write(str(os.getpid()) + " " + str(grandchild.pid))
os.rename({note!r} + ".part", {note!r})
time.sleep(600)
"""
# The outermost process of a workflow, by its name; it starts a job and waits.
SNAKEMAKE = "import subprocess, sys; subprocess.run([sys.executable, *sys.argv[1:]])"
TRAINING = """
from rllm_serving.serving.process import run_in_environment
run_in_environment("training", Path(sys.executable), "timeit", ["-n", "1", "-r", "1", CHILD])
"""
BUILD = """
from rllm_serving import environments
environments._run([sys.executable, "-c", CHILD], Path(NOTE + ".build"), "not built", "", {})
"""
# A job that works in its own process, as those of datasets do.
DATASET = "exec(CHILD)"
WITHOUT_DESCRIPTORS = """
import os
def refuse(pid):
    raise OSError(38, "Function not implemented")
os.pidfd_open = refuse
"""


class Workflow:
    """A job under a process named snakemake; `pids`: of the job, and what CHILD wrote down."""

    def __init__(self, folder: Path, job: str) -> None:
        note, script = folder / "pids", folder / "job.py"
        (folder / "snakemake").write_text(SNAKEMAKE)
        script.write_text(
            f"import os, sys\nfrom pathlib import Path\nsys.path.insert(0, {LIBRARY!r})\n"
            f"NOTE = {str(note)!r}\nCHILD = {CHILD.format(note=str(note))!r}\n"
            "Path(NOTE + '.job').write_text(str(os.getpid()))\n"
            "from rllm_serving.logs import logged\n"
            f"with logged(NOTE + '.log'):\n" + "".join(f"    {line}\n" for line in job.strip().splitlines())
        )
        command = [sys.executable, str(folder / "snakemake"), str(script)]
        self.outermost = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert eventually(note.exists)
        self.job = int((folder / "pids.job").read_text())
        self.pids = [self.job, *map(int, note.read_text().split())]

    def gone(self) -> bool:
        return eventually(lambda: not any(alive(pid) for pid in self.pids))

    def end(self) -> None:
        for pid in [self.outermost.pid, *self.pids]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.outermost.wait()


@pytest.fixture(params=[TRAINING, BUILD], ids=["training", "build"])
def workflow(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Workflow]:
    workflow = Workflow(tmp_path, request.param)
    assert all(alive(pid) for pid in workflow.pids)
    yield workflow
    workflow.end()


def test_a_killed_workflow_takes_its_job_with_child_and_grandchild_along(workflow: Workflow) -> None:
    workflow.outermost.kill()
    assert workflow.gone()


def test_a_killed_job_takes_its_child_and_grandchild_along(workflow: Workflow) -> None:
    os.kill(workflow.job, signal.SIGKILL)
    assert workflow.gone()


def test_a_job_that_starts_nothing_ends_with_the_workflow_and_says_so(tmp_path: Path) -> None:
    workflow = Workflow(tmp_path, DATASET)
    assert alive(workflow.job)
    workflow.outermost.kill()
    assert eventually(lambda: not alive(workflow.job))
    assert "the workflow is gone" in (tmp_path / "pids.log").read_text()
    workflow.end()


def test_a_kernel_without_process_descriptors_is_watched_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_DESCRIPTORS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    workflow = Workflow(tmp_path, DATASET)
    workflow.outermost.kill()
    assert eventually(lambda: not alive(workflow.job))
    workflow.end()


def test_without_a_workflow_nothing_is_watched() -> None:
    before = psutil.Process().num_threads()
    with ends_with_workflow():
        assert psutil.Process().num_threads() == before


def test_a_supervised_program_has_the_streams_that_it_is_given_and_its_own_exit_code() -> None:
    program = "import sys; print(sys.stdin.read().upper()); sys.exit(3)"
    with supervised([sys.executable, "-c", program], stdin=-1, stdout=-1, text=True) as process:
        said, _ = process.communicate("words")
    assert (said, process.returncode) == ("WORDS\n", 3)


def test_what_cannot_be_started_says_why() -> None:
    with supervised(["/nowhere/uv"], stderr=subprocess.PIPE, text=True) as process:
        _, said = process.communicate()
    assert (said, process.returncode) == ("cannot start /nowhere/uv: No such file or directory\n", 127)


def test_an_exception_ends_the_program_and_what_it_started(tmp_path: Path) -> None:
    note = tmp_path / "pids"
    with (
        pytest.raises(KeyboardInterrupt),
        supervised([sys.executable, "-c", CHILD.format(note=str(note))], grace_s=0.5),
    ):
        assert eventually(note.exists)
        raise KeyboardInterrupt
    assert not any(alive(int(pid)) for pid in note.read_text().split())


@pytest.mark.parametrize(
    ("chain", "watched"),
    [
        # From the outermost process in; a terminal's shell may go away, what belongs to the workflow may not.
        (["shell", "uv run snakemake --cores 2", "snakemake --cores 2", "job"], [1, 2, 3]),
        (["shell", "snakemake", "shell", "job"], [1, 2, 3]),
        (["shell", "job"], [1]),
    ],
)
def test_a_run_watches_its_ancestors_up_to_the_outermost_of_the_workflow(
    chain: list[str], watched: list[int], tmp_path: Path
) -> None:
    says = "import subprocess, sys, os; print(os.getpid(), flush=True)\n"
    job = f"{says}sys.path.insert(0, {LIBRARY!r}); from rllm_serving.lifetime.workflow import *"
    job += "; print(*workflow_ancestors())"
    command: list[str] = []
    for level in range(len(chain) - 1, -1, -1):
        name, *arguments = chain[level].split()
        folder = tmp_path / str(level)
        folder.mkdir()
        own = job if not command else f"{says}subprocess.run({command!r})"
        (folder / name).write_text(own)
        command = [sys.executable, str(folder / name), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=60)
    *pids, printed = done.stdout.splitlines()
    assert sorted(map(int, printed.split())) == sorted(int(pids[level]) for level in watched)
