"""What the workflow plans, and what it leaves alone, in the real Snakemake on a tree of results made by hand."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from helpers.checkouts import edited, environments, plan, rules, runs, snakemake, sources
from helpers.studies import TINY, changed

ANALYSED = {"compute_metrics": 2, "collect_results": 3, "plot_figure": 8, "make_table": 10, "write_report": 1}
"""What follows from grades, of the tiny study."""
NEW_MODEL = {"source": "micro", "role": "llm", "pair": "other", "training_scale": 0.5}


def test_a_dry_run_lists_every_job_once(fresh: Path) -> None:
    jobs = plan(fresh)
    assert rules(jobs) == {
        "build_environment": 2,
        "train_model": 2,
        # One for each model and engine that serves it.
        "check_tokenizer": 2,
        "load_dataset": 2,
        "measure": 3,
        # One for each model of an experiment, of which each has one server here, started once.
        "grade": 3,
        # One for each experiment.
        "compute_metrics": 2,
        "collect_results": 3,
        # Five of the budget sweep, and three where there are no batches and nothing is swept.
        "plot_figure": 8,
        "make_table": 10,
        "evaluate_claims": 1,
        "collect_runs": 1,
        "write_report": 1,
    }
    assert runs(jobs) == {"budget/tiny-llm", "budget/tiny-rllm", "single/tiny-rllm"}
    assert environments(jobs) == {
        "train-cpu",
        "vllm-cpu",
    }


def test_one_figure_asks_for_its_runs_alone(fresh: Path) -> None:
    jobs = plan(fresh, "results/figures/single-domain.png")
    assert rules(jobs) == dict.fromkeys(
        ("train_model", "check_tokenizer", "load_dataset", "measure", "grade", "compute_metrics", "plot_figure"), 1
    ) | {"build_environment": 2}
    assert runs(jobs) == {"single/tiny-rllm"}


def test_what_needs_no_server_can_be_prepared_alone(fresh: Path) -> None:
    assert rules(plan(fresh, "prepare")) == dict.fromkeys(
        ("build_environment", "train_model", "check_tokenizer", "load_dataset"), 2
    )


QUANTIZED: list[tuple[str, Any]] = [
    ("engines", ["vllm", "sglang"]),
    ("on_unsupported", "mark"),
    ("quantizations", {"w4": {"method": "gptq-int4"}, "ao": {"method": "torchao-int8-weight"}}),
    ("experiments.single.quantizations", ["bf16", "w4", "ao"]),
]


def test_a_model_is_quantized_once_and_only_for_methods_with_a_checkpoint(fresh: Path) -> None:
    jobs = plan(fresh, "--until", "measure", config=changed(*QUANTIZED))
    made = [job.wildcards for job in jobs if job.rule == "quantize"]
    assert made == [{"model": "tiny-rllm", "quantization": "w4"}]
    served = [job.wildcards for job in jobs if job.rule == "measure" and job.wildcards["experiment"] == "single"]
    assert {(run["engine"], run["quantization"]) for run in served} == {
        *(("vllm", "bf16"), ("vllm", "w4")),
        *(("sglang", "bf16"), ("sglang", "ao")),
    }
    assert environments(jobs) == {"train-cpu", "vllm-cpu", "sglang-cpu", "quantize-cpu"}
    assert rules(plan(fresh, "prepare", config=changed(*QUANTIZED)))["quantize"] == 1
    checked = {
        (job.wildcards["checkpoint"], job.wildcards["environment"]) for job in jobs if job.rule == "check_tokenizer"
    }
    # The tool that quantizes reads a tokenizer too, and each checkpoint has one of its own for each engine.
    assert checked == {
        *((model, "vllm-cpu") for model in ("tiny-llm", "tiny-rllm", "tiny-rllm/w4")),
        *((model, "sglang-cpu") for model in ("tiny-llm", "tiny-rllm")),
        ("tiny-rllm", "quantize-cpu"),
    }


def test_nothing_that_runs_need_waits_behind_runs(fresh: Path) -> None:
    """A checkpoint that came last put all starts of its servers behind those that they are compared with."""
    jobs = plan(fresh, "--until", "measure", config=changed(*QUANTIZED))
    made = [job.priority for job in jobs if job.rule != "measure"]
    served = [job.priority for job in jobs if job.rule == "measure"]
    assert len(made) > 8 and len(served) > 4 and min(made) > max(served) > min(served)


def test_a_model_of_the_hub_is_quantized_with_the_dataset_that_is_named(fresh: Path) -> None:
    hub = {"source": "hub", "role": "rllm", "pair": "hub", "reasoning_parser": "qwen3", "id": "a/b", "revision": "main"}
    jobs = plan(
        fresh,
        "resources/models/hub/w4/model.json",
        config=changed(
            ("models.hub", hub),
            ("quantizations", {"w4": {"method": "awq-int4", "dataset": "facts"}}),
            ("experiments.single.models", ["hub"]),
            ("experiments.single.quantizations", ["w4"]),
        ),
    )
    needed = ("build_environment", "fetch_model", "check_tokenizer", "load_dataset", "quantize")
    assert rules(jobs) == dict.fromkeys(needed, 1)
    assert next(job.wildcards for job in jobs if job.rule == "load_dataset") == {"dataset": "facts"}


def test_runs_are_granted_no_more_than_the_queues_allow(fresh: Path) -> None:
    hub = {"source": "hub", "role": "rllm", "pair": "hub", "reasoning_parser": "qwen3", "id": "a/b", "revision": "main"}
    changes = ("models.hub", hub), ("experiments.single.models", ["hub"])
    for limit, granted in ((None, str(24 * 60)), (90, "90")):
        config = changed(*changes, ("max_run_minutes", limit))
        jobs = plan(fresh, "results/runs/single/vllm/hub/bf16/baseline/1/run.json", config=config)
        assert [job.resources["runtime"] for job in jobs if job.rule == "measure"] == [granted]


def test_a_second_call_does_nothing(done: Path) -> None:
    assert plan(done) == []


def test_a_new_clone_elsewhere_keeps_the_results(done: Path, tmp_path: Path) -> None:
    clone = tmp_path / "other" / "place"
    shutil.copytree(done, clone, symlinks=True)
    for file in sources(clone):
        os.utime(file)
    assert plan(clone) == []


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (
            "rllm_serving/grading/grader.py",
            {"grade": 3, **ANALYSED},
        ),
        (
            "rllm_serving/analysis/points.py",
            {**ANALYSED, "evaluate_claims": 1},
        ),
        ("rllm_serving/report/tables.py", {"make_table": 10, "write_report": 1}),
        ("rllm_serving/report/templates/style.css", {"write_report": 1}),
        ("rllm_serving/report/figures/style.py", {"plot_figure": 8, "write_report": 1}),
        ("rllm_serving/report/figures/domain.py", {"plot_figure": 2, "write_report": 1}),
        ("scripts/collect_results.py", {"collect_results": 3, "write_report": 1}),
    ],
)
def test_changed_code_redoes_what_it_makes_and_starts_no_server(
    done: Path, file: str, expected: dict[str, int]
) -> None:
    with edited(done / "workflow" / file):
        assert rules(plan(done)) == expected


def test_a_changed_prompt_is_measured_again(done: Path) -> None:
    with edited(done / "resources" / "prompts" / "facts.jinja"):
        # The single experiment asks no facts, but its model is trained with the prompts of all of them.
        assert rules(plan(done, "--until", "measure")) == {
            "train_model": 2,
            "check_tokenizer": 2,
            "measure": 3,
        }


def test_one_more_budget_runs_its_experiment_again_and_no_other(done: Path) -> None:
    jobs = plan(done, config=changed(("experiments.budget.budgets", [16, 32, 64])))
    for rule in ("measure", "grade"):
        assert runs(jobs, rule) == {"budget/tiny-llm", "budget/tiny-rllm"}
    assert [job.wildcards for job in jobs if job.rule == "compute_metrics"] == [{"experiment": "budget"}]
    assert not {"load_dataset", "train_model", "build_environment"} & rules(jobs).keys()
    assert {job.wildcards["experiment"] for job in jobs if job.rule in ("plot_figure", "make_table")} == {"budget"}


def test_a_derived_budget_measures_nothing(done: Path) -> None:
    budgets = {"measured": TINY["experiments"]["budget"]["budgets"], "derived": [8]}
    jobs = plan(done, config=changed(("experiments.budget.budgets", budgets)))
    assert "measure" not in rules(jobs) and "grade" not in rules(jobs)
    derived = [(job.rule, job.wildcards) for job in jobs if job.rule in ("grade_derived", "check_derived")]
    models = [{"experiment": "budget", "model": name} for name in ("tiny-llm", "tiny-rllm")]
    assert sorted(derived, key=str) == [
        ("check_derived", {"experiment": "budget"}),
        *(("grade_derived", model) for model in models),
    ]
    assert {job.wildcards["experiment"] for job in jobs if job.rule == "compute_metrics"} == {"budget"}


def test_one_more_model_adds_only_its_runs(done: Path) -> None:
    jobs = plan(done, config=changed(("models.new", NEW_MODEL)))
    assert runs(jobs) == runs(jobs, "grade") == {"budget/new"}
    assert [job.wildcards["model"] for job in jobs if job.rule == "train_model"] == ["new"]
    assert not {"load_dataset", "build_environment"} & rules(jobs).keys()


def test_one_more_setup_measures_its_run_and_analyses_its_model_again(done: Path) -> None:
    setups: dict[str, Any] = {"baseline": {}, "cold": {"prefix_cache": False}}
    jobs = plan(done, config=changed(("setups", setups), ("experiments.single.setups", ["baseline", "cold"])))
    measured = [job.wildcards["setup"] for job in jobs if job.rule == "measure"]
    assert measured == ["cold"]
    assert runs(jobs, "grade") == {"single/tiny-rllm"}
    assert rules(jobs)["grade"] == rules(jobs)["compute_metrics"] == rules(jobs)["compare_runs"] == 1


def test_one_more_start_measures_only_that(done: Path) -> None:
    jobs = plan(done, config=changed(("experiments.budget.starts", 2)))
    measured = [job for job in jobs if job.rule == "measure"]
    assert {(job.wildcards["model"], job.wildcards["start"]) for job in measured} == {
        ("tiny-llm", "2"),
        ("tiny-rllm", "2"),
    }
    assert runs(jobs, "grade") == {"budget/tiny-llm", "budget/tiny-rllm"}


def test_starts_come_in_blocks(fresh: Path) -> None:
    jobs = plan(fresh, config=changed(("experiments.budget.starts", 2)))
    served = sorted((job for job in jobs if job.rule == "measure"), key=lambda job: -job.priority)
    assert [job.wildcards["start"] for job in served] == ["1", "1", "1", "2", "2"]


def test_identical_servers_are_counted_on_demand(fresh: Path) -> None:
    again = [("setups", {"again": {}}), ("experiments.single.setups", ["baseline", "again"])]
    jobs = plan(fresh, "aa", config=changed(*again))
    assert {"count_false_positives": 1, "compare_runs": 1, "measure": 2}.items() <= rules(jobs).items()


def test_two_studies_are_compared_only_where_an_older_one_is_named(fresh: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    for name in ("starts", "summary"):
        (tmp_path / f"{name}.parquet").touch()
    jobs = plan(fresh, config=changed(("compare_with", str(tmp_path))))
    assert rules(jobs)["compare_studies"] == 1 and "compare_studies" not in rules(plan(fresh))
    assert rules(plan(fresh, "compare_studies")) == {"compare_studies": 1}


def test_a_config_file_takes_the_place_of_the_default_one(done: Path) -> None:
    # Laid over the default study, the experiment that is not in the file would still be there.
    config = changed()
    del config["experiments"]["single"]
    assert rules(plan(done, config=config)) == {
        "collect_results": 3,
        "evaluate_claims": 1,
        "collect_runs": 1,
        "write_report": 1,
    }


def test_the_order_of_keys_defaults_written_out_and_the_source_of_wheels_change_nothing(done: Path) -> None:
    config = {key: TINY[key] for key in reversed(TINY)}
    models = {name: dict(reversed(spec.items())) for name, spec in TINY["models"].items()}
    sampling = {"top_p": 0.95, "temperature": 0.6}
    setups: dict[str, Any] = {"baseline": {}}
    wheels = {"torch_cpu_wheels": "/another/machines/wheels"}
    changes = [("models", models), ("sampling", sampling), ("setups", setups), ("environments", wheels)]
    assert plan(done, config=changed(*changes, base=config)) == []


def test_runs_are_measured_again_on_demand(done: Path) -> None:
    jobs = plan(done, "--forcerun", "measure")
    assert rules(jobs) == {
        "measure": 3,
        "grade": 3,
        "compute_metrics": 2,
        "collect_results": 3,
        "plot_figure": 8,
        "make_table": 10,
        "collect_runs": 1,
        "write_report": 1,
    }
    one = "results/runs/budget/vllm/tiny-llm/bf16/baseline/1/run.json"
    assert runs(plan(done, "--forcerun", one)) == {"budget/tiny-llm"}


def test_a_job_that_has_run_is_not_planned_again(fresh: Path, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    shutil.copytree(fresh, checkout)
    targets = ["resources/datasets/easy.parquet", "resources/datasets/facts.parquet"]
    snakemake(checkout, *targets)
    assert [pq.read_table(checkout / target).num_rows for target in targets] == [8, 8]
    for file in sources(checkout):
        os.utime(file)
    assert plan(checkout, *targets) == []
    questions = [("datasets.easy.num_questions", 9)]
    assert [job.wildcards for job in plan(checkout, *targets, config=changed(*questions))] == [{"dataset": "easy"}]
