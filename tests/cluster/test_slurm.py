"""The workflow on a real Slurm, with a stand-in for the engine: GPUs, cancelled jobs, a node that fails, results."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import psutil
import pytest
import yaml
from cluster.cases import GRADES, HANG, RUNS, lay, results, served, starts
from cluster.slurm import Slurm, missing
from conftest import run
from helpers.mock_server import eventually

TARGETS = [GRADES["one"], GRADES["two"]]
# What docs/cluster.md says of clusters without accounting.
SITE = {"slurm-status-command": "squeue"}
# Snakemake that asks every so many seconds how its jobs are: by itself, ever more rarely, up to every three minutes.
ASKING = """
import snakemake_executor_plugin_slurm as plugin
plugin.Executor.next_seconds_between_status_checks = property(lambda _: {seconds}, lambda *_: None)
from snakemake.cli import main
main()
"""


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    reason = missing()
    if reason is None and importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        reason = "no Slurm plugin: `uv run --group cluster pytest`"
    if reason is not None:
        pytest.skip(reason)
    with Slurm() as slurm:
        yield slurm


def arguments(*more: str) -> list[str]:
    """Snakemake's, for a call in a study's folder."""
    return ["--configfile", "study.yaml", *more]


class Workflow:
    """The workflow on Slurm, started: all its output goes to one file."""

    def __init__(self, slurm: Slurm, folder: Path, *targets: str, seconds: int = 1) -> None:
        site = folder / "site"
        site.mkdir(exist_ok=True)
        (site / "config.yaml").write_text(yaml.safe_dump(SITE))
        self.slurm, self.folder, self.log = slurm, folder, folder / "main.log"
        profiles = ["--profile", "profiles/slurm", "--profile", "site"]
        command = [sys.executable, "-c", ASKING.format(seconds=seconds), *arguments(*profiles, *targets)]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, cwd=folder, env=slurm.environment, stdout=log, stderr=log)

    def hanging(self, experiment: str, job: str = "") -> dict[str, str]:
        """The start of the engine whose first point is kept and whose second one hangs, in another job than `job`."""
        kept = self.folder / f"{RUNS[experiment]}.partial"

        def hangs() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            begun = starts(self.folder)
            return bool(begun) and begun[-1]["job"] != job and any(kept.glob("*__16__0.json")) and self.asked()

        assert eventually(hangs, 240), self.log.read_text()
        return starts(self.folder)[-1]

    def asked(self) -> bool:
        """Whether the last engine is talked to: it listens, and somebody is connected."""
        try:
            connections = psutil.Process(starts(self.folder)[-1]["pid"]).net_connections("tcp")
        except psutil.Error:
            return False
        return any(connection.status == psutil.CONN_ESTABLISHED for connection in connections)

    def ended(self) -> int:
        """Its exit code."""
        try:
            return self.process.wait(240)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(self.log.read_text()) from None


def gone(folder: Path) -> bool:
    """Whether nothing is left of any engine."""
    return eventually(lambda: not served(folder), 60)


@pytest.fixture(scope="module")
def done(slurm: Slurm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study, run on Slurm, with a node that failed while a run was at its second point."""
    folder = lay(tmp_path_factory.mktemp("study"))
    faults = folder / "faults.json"
    faults.write_text(json.dumps(HANG))
    workflow = Workflow(slurm, folder, *TARGETS)
    workflow.hanging("one")
    assert served(folder)
    slurm.set_node("down")
    assert gone(folder)
    faults.unlink()
    slurm.set_node("resume")
    assert workflow.ended() == 0, workflow.log.read_text()
    return folder


def test_a_run_goes_on_after_its_node_failed(slurm: Slurm, done: Path) -> None:
    record = json.loads((done / RUNS["one"] / "run.json").read_text())
    first, second = (point["session"] for point in record["points"])
    assert [session["id"] for session in record["sessions"]] == [first, second] and first != second
    # Slurm put the same job back; the workflow did not even have to submit another.
    mine = [start["job"] for start in starts(done) if start["tensor_parallel"] == 1]
    assert len(mine) == 2 and len(set(mine)) == 1 and slurm.jobs()[mine[0]]["Restarts"] == "1"


def test_a_job_gets_the_gpus_that_it_asks_for_and_others_none(slurm: Slurm, done: Path) -> None:
    begun = starts(done)
    assert {start["tensor_parallel"] for start in begun} == {1, 2}
    assert all(start["gpus"] == str(start["tensor_parallel"]) for start in begun)
    assert all(len(start["visible"].split(",")) == start["tensor_parallel"] for start in begun)
    asked = {(job["Comment"].partition("_wildcards")[0], job.get("TresPerJob")) for job in slurm.jobs().values()}
    others = ("load_dataset", "fetch_model", "check_tokenizer", "schedule_arrivals", "grade")
    assert asked == {
        *((f"rule_{name}", None) for name in others),
        *(("rule_measure", f"gres:gpu:{gpus}") for gpus in (1, 2)),
    }


def test_results_are_those_of_a_run_without_slurm(done: Path, tmp_path: Path) -> None:
    folder = lay(tmp_path / "study")
    command = [sys.executable, "-m", "snakemake", *arguments("--resources", "gpu=2", "--cores", "2", *TARGETS)]
    local = run(command, cwd=folder)
    assert local.returncode == 0, local.stdout
    there = results(done)
    for name, table in results(folder).items():
        assert len(table) > 0
        pd.testing.assert_frame_equal(table, there[name])
    assert not list((done / "logs/slurm").rglob("*.log"))  # of jobs that ended well


def test_jobs_that_are_cancelled_or_killed_leave_no_server_and_are_tried_again(slurm: Slurm, done: Path) -> None:
    folder, target = done, f"{RUNS['again']}/run.json"
    faults = folder / "faults.json"
    faults.write_text(json.dumps(HANG))
    workflow = Workflow(slurm, folder, target)
    first = workflow.hanging("again", starts(folder)[-1]["job"])
    slurm.call("scancel", first["job"])
    assert gone(folder)
    second = workflow.hanging("again", first["job"])
    # The job's own Snakemake, as if it had run out of memory.
    above = psutil.Process(int(second["pid"])).parents()
    next(process for process in above if "snakemake" in process.cmdline()[:3]).kill()
    assert gone(folder)
    assert workflow.ended() == 1

    # It asks rarely: Snakemake forgets to cancel the jobs that it is just asking for (see docs/cluster.md).
    workflow = Workflow(slurm, folder, target, seconds=30)
    third = workflow.hanging("again", second["job"])
    workflow.process.send_signal(signal.SIGINT)
    assert gone(folder)
    assert workflow.ended() == 1
    assert eventually(lambda: slurm.jobs()[third["job"]]["JobState"] == "CANCELLED")

    faults.unlink()
    assert Workflow(slurm, folder, target).ended() == 0
    record = json.loads((folder / target).read_text())
    # The first point was measured once, before all this; the second by the job that was left alone.
    assert len(record["sessions"]) == 2
