"""Every call on GPUs is checked before its first job, not only the first one of a study."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from conftest import run
from helpers.checkouts import new_checkout
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
