"""Changed code makes stale what it made: every module of the library counts, or stands here with its reason."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

import pytest
from conftest import ROOT
from helpers.checkouts import edited, plan, rules
from rllm_serving.code_digest import Library

SCRIPTS = sorted((ROOT / "workflow" / "scripts").glob("*.py"))
PLANNING = "only decides which jobs there are and what they are asked: that reaches them as their parameters"
DECIDES_NO_RESULT = {
    "claims/planning.py": PLANNING,
    "study/study.py": PLANNING,
    "study/config*.py": PLANNING,
    "study/budgets.py": PLANNING,
    "study/checks.py": PLANNING,
    "study/paths.py": "only refuses paths of a config in the dry run",
    "study/support.py": PLANNING,
    "study/sent.py": "tells what servers that already run will be sent",
    "study/command_line.py": "reads what Snakemake is called with, before any rule",
    "study/locks.py": "reads whether Snakemake's lock is in use, before any rule",
    "study/results_owner.py": "only refuses another study's results in the dry run",
    "load/trace_checks.py": "only refuses traces in the dry run; what is read of them is load/trace_files.py",
    "report/catalogue.py": PLANNING,
    "study/requirements.py": PLANNING,
    "study/cluster.py": PLANNING,
    "study/estimate.py": "tells what the study will take, and what clusters are asked for",
    "serving/machine.py": "tells what a machine has, for its check alone",
    "models/hub_access.py": "asks the hub for access, for that check alone",
    "study/machine_check.py": "only refuses a machine before anything is fetched",
    "study/plan_text.py": "tells what the study will take",
}
# Prints which modules of the library a script has imported when it first asks for what Snakemake gives it.
IMPORTED = """
import json, runpy, sys
try:
    runpy.run_path(sys.argv[1])
except NameError:
    pass
files = [module.__file__ for name, module in sys.modules.items() if name.partition(".")[0] == "rllm_serving"]
print(json.dumps(files))
"""


def recorded(checkout: Path) -> set[str]:
    """Every parameter that Snakemake has recorded of a job in a checkout."""
    records = (file for file in (checkout / ".snakemake" / "metadata").rglob("*") if file.is_file())
    return {param for record in records for param in json.loads(record.read_text())["params"]}


def programs(checkout: Path) -> list[Path]:
    """What jobs execute: scripts, but for those without an output, and the modules of figures."""
    figures = (checkout / "workflow" / "rllm_serving" / "report" / "figures").glob("*.py")
    scripts = (checkout / "workflow" / "scripts").glob("*.py")
    return [file for file in scripts if file.name not in ("plan.py", "aa.py")] + [*figures]


def test_every_module_makes_something_stale_or_says_why_not(done: Path) -> None:
    params = recorded(done)
    library = Library(done / "workflow" / "rllm_serving")
    executed = [program for program in programs(done) if repr(library.digests(program)) in params]
    rest = [program for program in programs(done) if program not in executed]
    # The tiny study compares and derives nothing, fetches and quantizes nothing, and has no open-loop load.
    unused = {"check_derived.py", "grade_derived.py"}
    unused |= {"compare_runs.py", "compare_studies.py", "count_false_positives.py", "fetch_model.py"}
    unused |= {"quantize.py", "schedule_arrivals.py", "check_machine.py"}
    assert {file.name for file in rest if file.parent.name == "scripts"} == unused
    # What checks the machine is read by nothing that makes a result.
    seen = set(library.reached(*(program for program in rest if program.name != "check_machine.py")))
    for file in library.modules.values():
        with edited(file):
            changed = Library(library.folder)
            if any(repr(changed.digests(program)) not in params for program in executed):
                seen.add(file)
    silent = {file.relative_to(library.folder).as_posix() for file in set(library.modules.values()) - seen}
    reasons = {name: next(filter(partial(fnmatch, name), DECIDES_NO_RESULT), None) for name in silent}
    assert not [name for name, reason in reasons.items() if reason is None]
    assert set(reasons.values()) == DECIDES_NO_RESULT.keys()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_what_a_script_imports_when_it_runs_is_what_was_read_from_it(script: Path) -> None:
    command = [sys.executable, "-c", IMPORTED, str(script)]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "workflow")}
    ended = subprocess.run(command, text=True, stdout=subprocess.PIPE, check=True, env=environment)
    imported = {Path(file) for file in json.loads(ended.stdout)}
    assert imported and imported <= set(Library(ROOT / "workflow" / "rllm_serving").reached(script))


@pytest.mark.parametrize(
    ("module", "first", "arguments"),
    [
        ("load/stream.py", "measure", ()),
        ("lifetime/supervisor.py", "measure", ("--workflow-profile", "none")),
        ("grading/sandbox_worker.py", "grade", ()),
        ("analysis/intervals.py", "compute_metrics", ("--workflow-profile", "none")),
    ],
)
def test_a_changed_module_is_seen_in_a_dry_run(done: Path, module: str, first: str, arguments: tuple[str, ...]) -> None:
    order = ["measure", "grade", "compute_metrics", "plot_figure"]
    with edited(done / "workflow" / "rllm_serving" / module):
        assert [rule for rule in order if rule in rules(plan(done, *arguments))] == order[order.index(first) :]


def test_without_the_default_profile_nothing_is_planned_either(done: Path) -> None:
    assert plan(done, "--workflow-profile", "none") == []


def test_a_changed_figure_redraws_it_and_those_that_import_it(done: Path) -> None:
    figures = done / "workflow" / "rllm_serving" / "report" / "figures"
    with edited(figures / "stragglers.py"):
        jobs = plan(done)
        assert {(job.rule, job.wildcards.get("figure")) for job in jobs} == {
            ("plot_figure", "stragglers"),
            ("write_report", None),
        }
    with edited(figures / "style.py"):
        assert rules(plan(done)) == {"plot_figure": 8, "write_report": 1}
