"""Every engine for real: started, killed, blocked, and a run that takes up where it was cut off."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from conftest import SMALL, processes, snakemake
from helpers.mock_server import eventually
from helpers.run_harness import RUN
from helpers.study_paths import run_paths
from rllm_serving.environments import python
from rllm_serving.errors import UserError
from rllm_serving.load import arrivals
from rllm_serving.measurement.engine_metrics import EngineMetrics
from rllm_serving.measurement.paths import RunPaths
from rllm_serving.measurement.point_validity import OptionsError
from rllm_serving.measurement.run import Measurement
from rllm_serving.measurement.telemetry import GpuSampler, MetricsSampler
from rllm_serving.serving import effective
from rllm_serving.serving.engines import ENGINES, Options, ServerConfig
from rllm_serving.serving.server import Server, ServerError
from rllm_serving.study.config import complete_config
from rllm_serving.study.design import Load, Point, Run

SERVED = yaml.safe_load(SMALL.read_text())["engines"]
OPTIONS = Options(context_length=512, kv_cache_tokens=4096, max_running_requests=16)


@pytest.fixture(params=SERVED)
def engine(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def config(engine: str, small_study: Path) -> ServerConfig:
    return ServerConfig(
        python=python(small_study / f"resources/environments/{engine}-cpu"),
        model=small_study / "resources/models/small-rllm/checkpoint",
        draft=None,
        served_name="small-rllm",
        device="cpu",
        options=OPTIONS,
        reasoning_parser="qwen3",
        trust_remote_code=False,
        seed=1,
    )


def test_a_server_answers_is_sampled_and_leaves_nothing(
    config: ServerConfig, engine: str, tmp_path: Path, marked: str
) -> None:
    with Server(ENGINES[engine], config, tmp_path / "server.log", 300) as server:
        assert server.startup_s and server.pid
        package = config.python.parent.parent / f"lib/python3.11/site-packages/{ENGINES[engine].module}"
        metrics = EngineMetrics.of_server(server.port, ENGINES[engine].metrics, package)
        assert metrics.missing == {}
        with MetricsSampler(server.port, server.pid, metrics, 5, GpuSampler()) as sampler:
            assert b"choices" in server.post("/v1/completions", {"model": "small-rllm", "prompt": "1", "max_tokens": 4})
        server.flush()
        row = sampler.rows(0.0, 0.0)[-1]
        known = {name for name, value in row.items() if value is not None}
        assert {"kv_cache_usage", "running", "waiting", "preemptions", "prompt_tokens", "generated_tokens"} <= known
        assert (row["host_rss_bytes"] or 0) > 2**28
    # SGLang is killed, as it would do itself after some seconds.
    assert server.stop() == {"vllm": 0, "sglang": 137}[engine]


def test_a_server_tells_what_it_runs_with(config: ServerConfig, engine: str, tmp_path: Path, marked: str) -> None:
    options = (
        replace(OPTIONS, speculative="ngram") if engine == "vllm" else replace(OPTIONS, scheduling="longest-prefix")
    )
    with Server(ENGINES[engine], replace(config, options=options), tmp_path / "server.log", 300) as server:
        told = effective.describe(server)
    assert told["differences"] == [] and told["changes_told"]
    asked = {name: value for name, value in told["asked"].items() if value is not None}
    # In the words of the config but for the numbers' format, which is the model's own.
    assert {name: told["effective"][name] for name in asked} == asked | {"kv_cache_dtype": "bfloat16"}
    assert told["effective"]["kv_block_tokens"] and told["effective"]["prefill_chunk_tokens"]
    assert told["effective"]["overlap_scheduling"] is (engine == "sglang")


def test_what_the_engine_changes_is_found_out(engine: str, small_study: Path, tmp_path: Path, marked: str) -> None:
    """Without a prefix cache SGLang takes another policy, without a word; vLLM does as it is told."""
    policy = {"vllm": "shortest-prompt", "sglang": "longest-prefix"}[engine]
    options = replace(OPTIONS, prefix_cache=False, scheduling=policy)
    if "avx512f" in Path("/proc/cpuinfo").read_text():
        options = replace(options, kv_cache_dtype="fp8-e5m2")
    run = _run(engine, small_study, options, [Point("arith-hard", Load("batch", 4), 16, 0, 4)])
    paths = _paths(engine, small_study, tmp_path)
    if engine == "sglang":
        with pytest.raises(OptionsError, match='scheduling asked "longest-prefix", effective "fcfs"'):
            Measurement(run, paths, "cpu").execute()
        run = replace(run, measurement={**run.measurement, "on_invalid": "mark"})
    Measurement(run, paths, "cpu").execute()
    record = json.loads(paths.record.read_text())
    [session], [point] = record["sessions"], record["points"]
    assert session["effective"]["prefix_cache"] is False and session["effective"]["prefix_cache_hits"] is None
    assert [entry["option"] for entry in session["differences"]] == ["scheduling"] * (engine == "sglang")
    assert (point["invalid"] or "").startswith("served otherwise than asked" * (engine == "sglang"))


def test_a_server_killed_while_loading_fails_at_once_with_its_log(
    config: ServerConfig, engine: str, tmp_path: Path, marked: str
) -> None:
    server = Server(ENGINES[engine], config, tmp_path / "server.log", 300)

    def kill() -> None:
        if eventually(lambda: server.pid is not None and len(server.log.read_bytes()) > 500, 120):
            os.kill(server.pid or 0, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(ServerError) as caught, server:
        pytest.fail("a killed server got ready")
    killer.join()
    assert "ended with exit code 137" in str(caught.value) and "End of its log" in str(caught.value)


def test_a_port_that_is_taken_is_noticed_before_anything_starts(
    config: ServerConfig, engine: str, tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = Server(ENGINES[engine], config, tmp_path / "server.log", 300, port=taken.getsockname()[1])
        with pytest.raises(ServerError, match="is taken"), server:
            pytest.fail("two servers on one port")
        assert server.pid is None and not server.log.exists()


def test_a_model_that_does_not_load_is_told_with_the_engines_words(
    config: ServerConfig, engine: str, tmp_path: Path, marked: str
) -> None:
    (tmp_path / "empty").mkdir()
    broken = replace(config, model=tmp_path / "empty")
    server = Server(ENGINES[engine], broken, tmp_path / "server.log", 300)
    with pytest.raises(ServerError, match="ended with exit code 1") as caught, server:
        pytest.fail("an empty folder was served")
    assert "  | " in str(caught.value)


def test_a_flag_that_the_engine_does_not_know_is_told(
    config: ServerConfig, engine: str, tmp_path: Path, marked: str
) -> None:
    server = Server(ENGINES[engine], config, tmp_path / "server.log", 300)
    server.command.append("--no-such-flag")
    with pytest.raises(ServerError, match="unknown to the installed"), server:
        pytest.fail("an unknown flag was taken")


def test_a_seeded_request_survives_preemption_and_a_trace_has_its_lengths(
    config: ServerConfig, engine: str, small_study: Path, tmp_path: Path, marked: str
) -> None:
    """A pool too small for its requests preempts them; on CPU that must not cost the engine its life.

    On the same server, requests of a trace come on time and have the lengths that the trace gives them.
    """
    trace = tmp_path / "trace.jsonl"
    entries = [{"timestamp": 40 * n, "input_length": 50 + n, "output_length": 10 * (n + 1)} for n in range(12)]
    trace.write_text("\n".join(map(json.dumps, entries)))
    stream = Point("arith-hard", Load("trace", rate=8.0, trace="recorded", replay_output_lengths=True), 60, 0, 12)
    points = [*(Point("arith-hard", Load("batch", 12), 256, repeat, 12) for repeat in (0, 1)), stream]
    paths = replace(_paths(engine, small_study, tmp_path), arrivals=tmp_path / "arrivals.parquet")
    texts = pq.read_table(paths.datasets["arith-hard"])["question"].to_pylist()
    source = {"recorded": {"source": "mooncake", "path": str(trace), "start_s": 0}}
    table, _ = arrivals.schedule_arrivals(points, {"arith-hard": texts}, source, {}, seed=1)
    pq.write_table(table, tmp_path / "arrivals.parquet")
    Measurement(_run(engine, small_study, replace(OPTIONS, kv_cache_tokens=1024), points), paths, "cpu").execute()
    requests = pq.read_table(paths.requests).to_pylist()
    assert {row["status"] for row in requests} == {"ok"} and len(requests) == 3 * 12
    streamed = [row for row in requests if row["load"] == stream.load.name]
    assert [row["output_tokens"] for row in streamed] == [row["forced_output_tokens"] for row in streamed]
    # The 95 % quantile of 10, 20, ... 120 takes the budget; the last one is cut to it.
    assert [row["output_tokens"] for row in streamed] == [5, 10, 16, 21, 26, 31, 37, 42, 47, 52, 58, 60]
    assert [row["scheduled"] for row in streamed] == pytest.approx([(n + 1) / 8 for n in range(12)], abs=0.01)


def test_a_run_cut_off_midway_is_taken_up(engine: str, small_study: Path, tmp_path: Path, marked: str) -> None:
    points = [Point("arith-hard", Load("batch", 4), 64, repeat, 12) for repeat in range(6)]
    run, paths = _run(engine, small_study, OPTIONS, points), _paths(engine, small_study, tmp_path)
    first = paths.partial / f"{points[1].name}.json"

    def kill() -> None:
        if eventually(first.exists, 300):
            for process in processes(marked):
                if str(paths.python) in process.cmdline()[:1] and "rllm_serving" not in " ".join(process.cmdline()):
                    process.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(UserError):
        Measurement(run, paths, "cpu").execute()
    killer.join()
    assert not paths.requests.exists() and first.exists()
    Measurement(run, paths, "cpu").execute()
    requests = pq.read_table(paths.requests)
    assert requests.num_rows == 6 * 12 and set(requests["status"].to_pylist()) == {"ok"}
    assert not paths.partial.exists()


def test_no_server_outlives_a_workflow_killed_hard(engine: str, small_study: Path, tmp_path: Path, marked: str) -> None:
    config = tmp_path / "killed.yaml"
    config.write_text(
        SMALL.read_text().replace("  closed:", "  killed:").replace("experiment: closed", "experiment: killed")
    )
    target = f"results/runs/killed/{engine}/small-rllm/bf16/baseline/1/run.json"
    workflow = subprocess.Popen(
        snakemake(small_study, "--nolock", target, config=config), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    started = eventually(lambda: any("--served-model-name" in p.cmdline() for p in processes(marked)), 120)
    workflow.kill()
    workflow.wait()
    assert started
    # The fixture `marked` sees that nothing is left.


def test_the_small_config_is_valid() -> None:
    assert complete_config(yaml.safe_load(SMALL.read_text()))


def _run(engine: str, study: Path, options: Options, points: list[Point]) -> Run:
    return replace(
        RUN,
        engine=engine,
        model="small-rllm",
        reasoning_parser="qwen3",
        options=options,
        measurement={**RUN.measurement, "startup_timeout_s": 300, "sample_hz": 5},
        points=tuple(points),
    )


def _paths(engine: str, study: Path, folder: Path) -> RunPaths:
    environment = study / f"resources/environments/{engine}-cpu"
    model = study / f"resources/models/small-rllm/for/{engine}-cpu/model.json"
    return run_paths(study, folder, python(environment), environment / "environment.json", model)
