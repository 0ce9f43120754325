"""Studies on GPUs: the job that checks the machine, and the check of every call before its first job."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from conftest import run
from helpers.checkouts import environments, new_checkout, plan, rules
from helpers.studies import COMPILING, changed, write

pytestmark = pytest.mark.slow
RUN = "results/runs/single/vllm/tiny-rllm/bf16/baseline/1/run.json"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A study on GPUs whose machine was checked before."""
    folder = new_checkout(tmp_path / "checkout")
    (folder / "resources" / "machine.json").write_text("{}\n")
    write(changed(("device", "cuda")), folder / "cuda.yaml")
    return folder


def called(folder: Path, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--resources", "gpu=1", "--configfile", "cuda.yaml"]
    ended = run([*command, "--", *arguments], cwd=folder, env={**COMPILING, "HF_HUB_OFFLINE": "1"})
    return ended.returncode, ended.stdout


def test_a_call_that_serves_is_refused_without_gpus_before_its_first_job(checkout: Path) -> None:
    code, said = called(checkout, RUN)
    assert code == 1
    assert "Error: this machine cannot do the study; nothing was fetched:\n- no NVIDIA GPU can be used here" in said
    assert not (checkout / "logs" / "build_environment").exists() and not (checkout / "results" / "study.json").exists()
    # The folder is left unlocked, and what needs no GPU is made.
    code, said = called(checkout, "resources/datasets/easy.parquet")
    assert code == 0, said
    assert (checkout / "resources" / "datasets" / "easy.parquet").exists()


def test_what_the_disk_has_no_room_for_is_not_begun(checkout: Path) -> None:
    hub = {"source": "hub", "id": "some/model", "revision": "main", "role": "llm", "pair": "big"}
    # Billions of parameters, of two bytes each: twice what is free.
    big = {**hub, "parameters_b": round(shutil.disk_usage(checkout).free / 1e9)}
    write(
        changed(("device", "cuda"), ("models.big", big), ("experiments.single.models", ["big"])), checkout / "cuda.yaml"
    )
    code, said = called(checkout, "resources/models/big/model.json")
    assert code == 1 and "GB to be written, " in said and "make room, point HF_HOME to another disk" in said


def test_measuring_alone_on_gpus_takes_as_many_as_tensor_parallel(fresh: Path) -> None:
    jobs = plan(fresh, "--until", "measure", config=changed(("device", "cuda"), ("serving.tensor_parallel", 2)))
    made = dict.fromkeys(("build_environment", "train_model", "check_tokenizer", "load_dataset"), 2)
    assert rules(jobs) == {"check_machine": 1, **made, "measure": 3}
    served = [job.resources for job in jobs if job.rule == "measure"]
    assert {(given["gpu"], given["nodes"], given["mem_mb"]) for given in served} == {("2", "1", "16007")}
    assert environments(jobs) == {
        "train-cpu",
        "vllm-cuda",
    }
    # As many GPUs as the largest server, unless nothing that is asked for uses one.
    assert [job.resources["gpu"] for job in jobs if job.rule == "check_machine"] == ["2"]
    cuda = changed(("device", "cuda"), ("serving.tensor_parallel", 2))
    for arguments in (("--until", "build_environment", "train_model"), ("prepare",)):
        fetched = plan(fresh, *arguments, config=cuda)
        assert [job.resources["gpu"] for job in fetched if job.rule == "check_machine"] == ["0"]


def test_a_check_of_the_machine_makes_nothing_again_that_is_there(fresh: Path, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    shutil.copytree(fresh, checkout, symlinks=True)
    record = checkout / "resources/environments/vllm-cuda/environment.json"
    record.parent.mkdir(parents=True)
    record.touch()
    jobs = plan(checkout, "--until", "build_environment", config=changed(("device", "cuda")))
    assert rules(jobs) == {"build_environment": 1} and environments(jobs) == {"train-cpu"}
