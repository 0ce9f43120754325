"""Servers that somebody else started, for real: llama.cpp's, in a whole study, and our own engines from outside."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import ROOT, SMALL, run, snakemake
from helpers.needs import skip_unless_there
from helpers.run_harness import RUN
from helpers.study_paths import run_paths
from rllm_serving import environments
from rllm_serving.measurement.endpoint import EndpointMeasurement
from rllm_serving.measurement.paths import RunPaths
from rllm_serving.serving.engines import ENGINES, Options, ServerConfig
from rllm_serving.serving.server import Server, free_port
from rllm_serving.study.design import Load, Point

LOCK = ROOT / "tests" / "envs" / "llama-cpp.txt"
PROGRAM = ROOT / "tests" / "helpers" / "llama_cpp.py"
SERVED = yaml.safe_load(SMALL.read_text())["engines"]


@pytest.fixture(scope="session")
def llama_cpp(study_folder: Path) -> Path:
    """Python of an environment with llama.cpp's server, built from its lock in half a minute."""
    target = study_folder / "llama-cpp"
    if not (target / environments.RECORD).exists():
        try:
            environments.build(LOCK, target, ["xllamacpp", "gguf"], None, study_folder / "llama-cpp.log")
        except environments.EnvironmentBuildError as error:
            skip_unless_there(f"llama.cpp's server: {error}")
    return environments.python(target)


@contextmanager
def served(python: Path, checkpoint: Path, folder: Path) -> Iterator[str]:
    """The address of llama.cpp's server with a checkpoint."""
    port = free_port()
    command = [str(python), str(PROGRAM), str(checkpoint), str(folder / "model.gguf"), str(port)]
    with (folder / "llama.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"listening"), (folder / "llama.log").read_text()
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()


def test_a_study_on_llama_cpp_from_requests_to_the_page(llama_cpp: Path, small_study: Path, tmp_path: Path) -> None:
    checkpoint = small_study / "resources/models/small-rllm/checkpoint"
    with served(llama_cpp, checkpoint, tmp_path) as url:
        config = {
            "study": "llama",
            "device": "cpu",
            "engines": {
                "llama": {
                    **{"type": "openai", "url": url, "model": "model.gguf", "tokenizer": str(checkpoint)},
                    **{"thinking": "tags", "extras": ["seed"], "max_in_flight": 4, "max_requests": 100},
                }
            },
            "models": {"small": {"source": "served", "role": "rllm", "reasoning_parser": "qwen3"}},
            "datasets": {"easy": {"source": "micro", "suite": "arith-easy", "num_questions": 8, "prompt": "arith"}},
            "measurement": yaml.safe_load(SMALL.read_text())["measurement"],
            "experiments": {
                "pilot-budget": {
                    **{"starts": 2, "budgets": [64], "slo": {"ttfvt_s": 10, "tpot_ms": 500}},
                    "loads": [{"type": "batch", "size": 4}, {"type": "closed", "size": 2}],
                }
            },
        }
        file = tmp_path / "study.yaml"
        file.write_text(yaml.safe_dump(config, sort_keys=False))
        done = run(snakemake(tmp_path / "study", config=file))
    assert done.returncode == 0, done.stdout[-6000:]
    assert "engines.llama: 42 requests will be sent to" in done.stdout
    results = tmp_path / "study" / "results"
    rows = pd.concat(map(pd.read_parquet, results.glob("runs/**/requests.parquet")))
    assert len(rows) == 2 * 2 * 8 and set(rows["status"]) == {"ok"}
    assert set(rows["finish_reason"]) <= {"stop", "length"} and rows["output_tokens"].between(1, 64).all()
    assert set(rows["tokens_source"]) == {"usage at the end, chunks by tokenizer"}
    assert set(rows["reasoning_source"]) == {"tokenizer"} and not rows["answer_text"].str.contains("</think>").any()
    for row in rows.to_dict("records"):
        counted = int(sum(row["chunk_tokens"]))
        # What texts do not show are `</think>` and the token that ends the answer, where the budget did not cut it
        # before; and a model may write a text with more tokens than its tokenizer would.
        least = 2 if row["finish_reason"] == "stop" else 0
        assert least <= row["output_tokens"] - counted <= 2 + 0.2 * row["output_tokens"]
        assert counted == row["reasoning_tokens"] + row["answer_tokens"]
    summary = pd.read_parquet(results / "summary.parquet")
    assert not summary["controlled"].any() and set(summary["starts"]) == {2}
    assert summary[["output_throughput", "ttft_mean", "tpot_mean", "itl_mean", "accuracy"]].notna().all(axis=None)
    assert summary["kv_cache_usage_max"].isna().all() and summary["slo_attainment"].notna().all()
    assert "| not controlled |" in (results / "tables" / "pilot-budget-main.md").read_text()
    claims = pd.read_parquet(results / "claims.parquet")
    assert claims["reason"].dropna().str.contains("the config has no LLM to compare with").any()
    page = (results / "report.html").read_text()
    assert "not controlled" in page and "the config has no LLM to compare with" in page
    record = json.loads((results / "runs/pilot-budget/llama/small/bf16/baseline/2/run.json").read_text())
    assert record["sessions"][0]["endpoint"]["server"] == "llama.cpp" and record["device"] is None
    assert not (tmp_path / "study" / "resources" / "environments").exists()


@pytest.fixture(params=SERVED)
def engine(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("knows_ours", [True, False])
def test_our_own_engines_from_outside(
    engine: str, knows_ours: bool, small_study: Path, tmp_path: Path, marked: str
) -> None:
    checkpoint = small_study / "resources/models/small-rllm/checkpoint"
    config = ServerConfig(
        python=environments.python(small_study / f"resources/environments/{engine}-cpu"),
        model=checkpoint,
        draft=None,
        served_name="theirs",
        device="cpu",
        options=Options(context_length=512, kv_cache_tokens=4096, max_running_requests=16),
        reasoning_parser="qwen3",
        trust_remote_code=False,
        seed=1,
    )
    paths = run_paths(small_study, tmp_path)
    with Server(ENGINES[engine], config, tmp_path / "server.log", 300) as server:
        rows, record = _measured(paths, engine, f"{server.url}/v1", checkpoint, knows_ours)
        # It still runs.
        assert b"choices" in server.post("/v1/completions", {"model": "theirs", "prompt": "1", "max_tokens": 4})
    assert {row["status"] for row in rows} == {"ok"} and len(rows) == 12
    for row in rows:
        assert sum(row["chunk_tokens"]) <= row["output_tokens"] and row["reasoning_tokens"] <= row["output_tokens"]
        assert row["prompt_tokens"] > 0
    expected = "usage" if knows_ours else "usage at the end, chunks by tokenizer"
    assert {row["tokens_source"] for row in rows} == {expected}
    samples = pq.read_table(paths.server)
    assert samples["running"].null_count == 0
    gates = record["points"][0]["validity"]
    assert gates["counter_mismatch_rate"] == 0 and gates["missing_samples_rate"] is not None


def _measured(
    paths: RunPaths, engine: str, url: str, checkpoint: Path, knows_ours: bool
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    endpoint: dict[str, Any] = {"name": "outside", "url": url, "model": "theirs", "max_in_flight": 4}
    endpoint |= {"tokenizer": str(checkpoint), "metrics": engine, "warm_up_rounds": 1}
    endpoint["extras"] = ["seed", "return_token_ids", "continuous_usage_stats"] if knows_ours else []
    asked = replace(
        RUN,
        engine="outside",
        model="small-rllm",
        reasoning_parser="qwen3",
        measurement={**RUN.measurement, "sample_hz": 5},
        points=(Point("arith-hard", Load("batch", 4), 96, 0, 12),),
        endpoint=endpoint,
    )
    EndpointMeasurement(asked, paths, "cpu", "small").execute()
    return pq.read_table(paths.requests).to_pylist(), json.loads(paths.record.read_text())
