"""Real servers on NVIDIA GPUs: every setup and weight format that an engine says it serves there, one run each.

That the study covers what the engines say is tested everywhere; tests/engines reads its servers' command lines.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from conftest import ROOT, folder_for, run, snakemake
from helpers.studies import load
from rllm_serving.serving.engines import ENGINES
from rllm_serving.serving.gpus import GpuError, visible_gpus
from rllm_serving.study.quantization_methods import METHODS

GPU = ROOT / "tests" / "data" / "gpu.yaml"
STUDY = load(yaml.safe_load(GPU.read_text()))
GREEDY = [folder for folder, planned in STUDY.runs.items() if planned.experiment == "greedy"]
SAMPLED = [folder for folder, planned in STUDY.runs.items() if planned.experiment == "sampled"]
LEAST_EQUAL = 0.5
"""Share of the baseline's answers that every other server must give too: one below it is broken, not merely rounded."""

try:
    COUNT, WHY_NOT = len(visible_gpus()), "CUDA_VISIBLE_DEVICES names none"
except GpuError as error:
    COUNT, WHY_NOT = 0, str(error)
needs_gpu = pytest.mark.skipif(COUNT == 0, reason=f"needs an NVIDIA GPU: {WHY_NOT}")
needs_two = pytest.mark.skipif(COUNT < 2, reason=f"needs two NVIDIA GPUs, here are {COUNT}")


def marked_by_need(folders: list[str]) -> list[Any]:
    """Runs as parameters, skipped where there are fewer GPUs than they need."""
    return [
        pytest.param(folder, marks=needs_two if STUDY.runs[folder].gpus("cuda") > 1 else needs_gpu, id=folder)
        for folder in folders
    ]


def call(study: Path, *arguments: str) -> None:
    """Call the workflow with all GPUs; cores are only counted, and a run on a GPU asks for eight."""
    done = run(snakemake(study, "--cores", "16", "--resources", f"gpu={COUNT}", *arguments, config=GPU))
    assert done.returncode == 0, done.stdout[-6000:]


def measure(study: Path, *folders: str) -> list[tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]]:
    """Record, requests and samples of runs, measured unless they have been."""
    paths = [study / "results" / "runs" / folder for folder in folders]
    call(study, *(f"results/runs/{folder}/run.json" for folder in folders))
    return [
        (
            json.loads((path / "run.json").read_text()),
            pd.read_parquet(path / "requests.parquet"),
            pd.read_parquet(path / "server.parquet"),
        )
        for path in paths
    ]


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the study with its environments, bf16 models and questions, and nothing measured.

    RLLM_SERVING_TEST_GPU_STUDY names a folder to keep them in between test sessions.
    """
    folder = folder_for("gpu-study", "RLLM_SERVING_TEST_GPU_STUDY", tmp_path_factory)
    shutil.rmtree(folder / "results", ignore_errors=True)
    environments = [*(f"{engine}-cuda" for engine in STUDY.engines), "quantize-cuda"]
    call(
        folder,
        *(f"resources/environments/{name}/environment.json" for name in environments),
        *(f"resources/models/{model}/model.json" for model in STUDY.models),
        *(f"resources/datasets/{dataset}.parquet" for dataset in STUDY.datasets),
    )
    return folder


@pytest.mark.parametrize("folder", marked_by_need(GREEDY))
def test_every_server_answers_on_its_own_gpus_as_the_baseline_does(study: Path, marked: str, folder: str) -> None:
    planned = STUDY.runs[folder]
    baseline = f"{STUDY.baseline(planned, 'baseline') or planned.server}/1"
    [(record, requests, samples), (_, expected, _)] = measure(study, folder, baseline)
    assert set(requests.status) == {"ok"}, requests.error.dropna().unique()
    assert (requests.output_tokens > 0).all()

    [session] = record["sessions"]
    assert session["differences"] == [] and session["effective"]["attention_backend"]
    gpus = session["hardware"]["gpus"]
    assert len(gpus) == planned.gpus("cuda") == len(session["environment"]["CUDA_VISIBLE_DEVICES"].split(","))
    assert record["config"]["method"] == planned.method
    assert ("quantization" in record["model"]) == METHODS[planned.method].has_checkpoint
    for column in ("device_memory_bytes", "device_utilisation", "device_power_w", "kv_cache_usage", "generated_tokens"):
        assert samples[column].notna().any(), column
    assert samples.device_memory_bytes.max() < sum(gpu["memory_bytes"] for gpu in gpus)
    if planned.options.speculative != "none" and planned.engine == "vllm":
        assert samples.spec_drafted.max() > 0
    if planned.options.kv_cache_dtype != "auto" and planned.engine == "sglang":
        assert "float8_e4m3fn" in session["kernels"]["kv_cache"]

    merged = expected.merge(requests, on="question_id", suffixes=("", "_here"), validate="one_to_one")
    answered = merged[merged.answer_text.str.strip() != ""]
    assert len(merged) == 12 and len(answered) > 0
    assert (answered.answer_text == answered.answer_text_here).mean() >= LEAST_EQUAL


@pytest.mark.parametrize("folder", marked_by_need(SAMPLED))
def test_sampling_works_with_speculation_too(study: Path, marked: str, folder: str) -> None:
    """Whether drafts are checked rightly when tokens are sampled: wrong ones garble the text, which then runs on."""
    baseline = f"{STUDY.baseline(STUDY.runs[folder], 'baseline') or STUDY.runs[folder].server}/1"
    [(_, requests, _), (_, expected, _)] = measure(study, folder, baseline)
    assert set(requests.status) == {"ok"}, requests.error.dropna().unique()
    ended = [(table.finish_reason == "stop").mean() for table in (requests, expected)]
    assert ended[0] >= LEAST_EQUAL * ended[1]


@needs_two
def test_runs_at_the_same_time_have_gpus_of_their_own(study: Path, marked: str) -> None:
    folders = [f"sampled/{engine}/small-rllm/bf16/baseline/1" for engine in STUDY.engines]
    for folder in folders:
        shutil.rmtree(study / "results" / "runs" / folder, ignore_errors=True)
    used = [record["sessions"][0]["hardware"]["gpus"][0]["uuid"] for record, _, _ in measure(study, *folders)]
    assert len(set(used)) == len(folders)


def test_the_study_has_all_that_the_engines_say_they_serve_on_gpus() -> None:
    runs = list(STUDY.runs.values())
    covered = {(planned.engine, planned.method) for planned in runs}
    refused = {(row["engine"], STUDY.quantizations[row["quantization"]]["method"]) for row in STUDY.unsupported}
    assert covered | refused == {(engine, method) for engine in ENGINES for method in METHODS}
    assert not covered & refused
    setups = {(planned.engine, planned.setup) for planned in runs if planned.quantization == "bf16"}
    assert setups == {(engine, setup) for engine in STUDY.engines for setup in STUDY.config["setups"]}
