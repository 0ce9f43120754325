"""The workflow as a module of another workflow, and the report that Snakemake makes of its results."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from conftest import ROOT
from helpers.checkouts import plan, rules, snakemake
from helpers.studies import TINY, write

OTHER = f"""
configfile: "study.yaml"

module serving:
    snakefile: "{ROOT}/workflow/Snakefile"
    config: config["serving study"]

use rule * from serving as serving_*

rule all:
    default_target: True
    input:
        rules.serving_all.input,
"""


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Folder of another workflow, which has the tiny study as one of its parts."""
    (tmp_path / "Snakefile").write_text(OTHER)
    write({"another key": 1, "serving study": TINY}, tmp_path / "study.yaml")
    return tmp_path


def test_another_workflow_plans_the_same_jobs_and_runs_one(fresh: Path, other: Path) -> None:
    assert rules(plan(other)) == {f"serving_{rule}": count for rule, count in rules(plan(fresh)).items()}
    snakemake(other, "resources/datasets/easy.parquet")
    assert pq.read_table(other / "resources" / "datasets" / "easy.parquet").num_rows == 8
    assert plan(other, "resources/datasets/easy.parquet") == []


@pytest.mark.parametrize("snakefile", ["Snakefile", "workflow/Snakefile"])
def test_results_hold_from_wherever_the_workflow_is_called(done: Path, tmp_path: Path, snakefile: str) -> None:
    assert plan(done, "--snakefile", snakefile) == []
    moved = tmp_path / "moved"
    shutil.copytree(done, moved, symlinks=True)
    command = [sys.executable, "-m", "snakemake", "-n", "--cores", "2", "--snakefile", str(moved / snakefile)]
    ended = subprocess.run([*command, "--directory", str(moved)], cwd=tmp_path, text=True, stdout=subprocess.PIPE)
    assert ended.returncode == 0 and "Nothing to be done" in ended.stdout, ended.stdout


def test_a_cluster_gets_one_job_for_the_analysis_tables_and_figures_of_an_experiment(fresh: Path) -> None:
    for name in ("slurm", "kubernetes"):
        profile = yaml.safe_load((ROOT / "profiles" / name / "config.yaml").read_text())
        ended = snakemake(fresh, "-n", "--groups", *profile["groups"])
        assert ended.count("Group job analysis ") == len(TINY["experiments"])
        alone = {line.split()[1].rstrip(":") for line in ended.splitlines() if line.startswith("rule ")}
        submitted = alone - {
            "all",
            "collect_results",
            "collect_runs",
            "evaluate_claims",
            "write_report",
        }  # which run where Snakemake is called
        assert submitted == {"build_environment", "train_model", "check_tokenizer", "load_dataset", "measure", "grade"}


def test_the_report_holds_every_figure_and_table(done: Path, tmp_path: Path) -> None:
    snakemake(done, "--report", str(tmp_path / "report.zip"))
    with zipfile.ZipFile(tmp_path / "report.zip") as archive:
        names = {Path(name).name for name in archive.namelist()}
        page = archive.read("report/report.html").decode()
    figures = {file.name for file in (done / "results" / "figures").glob("*.png")}
    tables = {file.name for file in (done / "results" / "tables").glob("*.csv")}
    assert len(figures) == 8 and len(tables) == 11 and figures | tables | {"report.html"} <= names
    for text in ("Latency, throughput, tokens and accuracy", "Accuracy by the domain of the question", "The study is"):
        assert text in page
