"""A study of one model on a server that already runs: what the workflow plans, and says before it sends anything."""

from __future__ import annotations

from pathlib import Path

from conftest import run, snakemake
from helpers.checkouts import plan, rules, runs
from helpers.studies import COMPILING, REMOVED, changed, write

FAR = {"type": "openai", "url": "https://far.example/v1", "api_key_env": "FAR_KEY", "max_in_flight": 8}
ALONE = changed(
    ("engines", {"far": {**FAR, "max_requests": 100}}),
    ("models", {"alone": {"source": "served", "role": "rllm", "reasoning_parser": "qwen3"}}),
    ("experiments.single.models", REMOVED),
    ("experiments.budget", REMOVED),
)


def test_nothing_is_built_or_fetched_for_it(fresh: Path) -> None:
    jobs = plan(fresh, config=ALONE)
    made = rules(jobs)
    assert not {"build_environment", "train_model", "fetch_model", "quantize"} & set(made)
    assert made["measure"] == made["grade"] == made["compute_metrics"] == made["write_report"] == 1
    assert runs(jobs) == {"single/alone"}
    [measure] = [job for job in jobs if job.rule == "measure"]
    assert measure.wildcards["engine"] == "far" and measure.resources["gpu"] == "0"


def test_beside_an_engine_of_ours_only_that_needs_anything(fresh: Path) -> None:
    both = changed(("engines", {"vllm": {}, "far": {**FAR, "max_requests": 1000, "model": {"tiny-rllm": "theirs"}}}))
    jobs = plan(fresh, config=changed(("on_unsupported", "mark"), base=both))
    assert rules(jobs)["measure"] == 3 + 2 and rules(jobs)["build_environment"] == 2


def test_the_dry_run_says_what_will_be_sent_or_refuses_it(tmp_path: Path) -> None:
    ended = run(snakemake(tmp_path, "-n", config=write(ALONE, tmp_path / "study.yaml")), env=COMPILING)
    assert ended.returncode == 0, ended.stdout
    assert ended.stdout.count("engines.far: 17 requests will be sent to https://far.example/v1, about ") == 1
    few = changed(("engines.far.max_requests", 16), base=ALONE)
    ended = run(snakemake(tmp_path, "-n", config=write(few, tmp_path / "few.yaml")), env=COMPILING)
    assert ended.returncode == 1 and "engines.far.max_requests: the study would send 17 requests" in ended.stdout
