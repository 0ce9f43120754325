"""What a config expands to: runs, points, seeds and serving options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.studies import TINY, changed, load
from rllm_serving.study.checks import attention_heads
from rllm_serving.study.config_errors import ConfigError
from rllm_serving.study.design import Load, Run, canonical_json, expand_sweep, request_seed
from rllm_serving.study.study import Study

SINGLE = "single/vllm/tiny-rllm/bf16/baseline/1"
BUDGET = "budget/vllm/tiny-llm/bf16/baseline/1"


@pytest.fixture(scope="module")
def study() -> Study:
    return load(TINY)


def dicts(study: Study) -> dict[str, dict[str, Any]]:
    return {folder: {**run.to_dict(), "sweep": study.sweeps[run.experiment]} for folder, run in study.runs.items()}


def test_a_run_is_an_experiment_on_a_server(study: Study) -> None:
    assert list(study.runs) == [BUDGET, "budget/vllm/tiny-rllm/bf16/baseline/1", SINGLE]
    run = study.runs[SINGLE]
    assert (run.folder, run.role, run.reasoning_parser, run.seed) == (SINGLE, "rllm", "deepseek-r1", 20251018)
    assert study.runs[BUDGET].reasoning_parser is None
    assert run.keys == {
        "experiment": "single",
        "engine": "vllm",
        "model": "tiny-rllm",
        "quantization": "bf16",
        "setup": "baseline",
    }
    assert study.pairs == {"tiny": {"llm": "tiny-llm", "rllm": "tiny-rllm"}}


def test_points_are_all_combinations_with_repeats_outermost(study: Study) -> None:
    points = [(p.repeat, p.dataset, p.load.name, p.budget) for p in study.runs[BUDGET].points]
    assert points == [
        (repeat, dataset, load, budget)
        for repeat in (0, 1)
        for dataset in ("easy", "facts")
        for load in ("batch-2", "closed-3")
        for budget in (16, 32)
    ]
    assert {p.num_questions for p in study.runs[BUDGET].points} == {4}
    (single,) = study.runs[SINGLE].points
    assert single.name == "easy__closed-8__64__0" and single.num_questions is None
    assert single.keys == {"dataset": "easy", "load": "closed-8", "load_level": 8, "budget": 64, "repeat": 0}


def test_names_of_points_are_unique_within_a_run(study: Study) -> None:
    for run in study.runs.values():
        assert len({point.name for point in run.points}) == len(run.points)


def test_servers_are_models_times_setups_times_engines() -> None:
    study = load(
        changed(
            ("engines", ["vllm", "sglang"]),
            ("setups", {"cold": {"prefix_cache": False}}),
            ("experiments.budget.setups", ["baseline", "cold"]),
            ("experiments.single.engines", ["sglang"]),
        )
    )
    assert len(study.runs) == 2 * 2 * 2 + 1
    assert len({run.folder for run in study.runs.values()}) == 9
    assert "single/sglang/tiny-rllm/bf16/baseline/1" in study.runs
    assert study.runs["budget/sglang/tiny-llm/bf16/cold/1"].options.prefix_cache is False


def test_seeds_differ_between_requests_and_not_between_servers() -> None:
    seeds = {
        request_seed(*parts)
        for parts in [
            (1, "easy", "q1", 0),
            (1, "easy", "q1", 1),
            (1, "easy", "q2", 0),
            (1, "facts", "q1", 0),
            (2, "easy", "q1", 0),
        ]
    }
    assert len(seeds) == 5
    # Servers are no argument; the value is pinned, because results that are kept were drawn with it.
    assert request_seed(20251018, "easy", "q1", 0) == 1689390445
    assert all(0 <= request_seed(seed, "d", "q", 0) < 2**31 for seed in range(1000))


def test_options_of_the_setup_win_over_the_experiments_the_models_and_the_studys() -> None:
    config = changed(
        ("serving", {"context_length": 512, "gpu_memory_fraction": 0.5, "kv_cache_tokens": 4096}),
        ("models.tiny-llm.serving", {"gpu_memory_fraction": 0.6, "max_running_requests": 8}),
        ("experiments.single.serving", {"max_running_requests": 6, "gpu_memory_fraction": 0.7}),
        ("setups", {"own": {"max_running_requests": 4, "kv_cache_tokens": None}}),
    )
    study = load(config)
    own = study.options("budget", "tiny-llm", "own")
    assert (own.context_length, own.gpu_memory_fraction, own.max_running_requests, own.kv_cache_tokens) == (
        512,
        0.6,
        4,
        None,
    )
    baseline = study.options("budget", "tiny-rllm", "baseline")
    assert (baseline.gpu_memory_fraction, baseline.max_running_requests, baseline.kv_cache_tokens) == (0.5, 64, 4096)
    assert study.runs[BUDGET].options == study.options("budget", "tiny-llm", "baseline")
    single = study.options("single", "tiny-llm", "own")
    assert (single.gpu_memory_fraction, single.max_running_requests) == (0.7, 4)


def test_a_run_survives_the_way_through_a_jobs_parameters(study: Study) -> None:
    for run in study.runs.values():
        data, sweep = json.loads(json.dumps([run.to_dict(), study.sweeps[run.experiment]]))
        again = Run.from_dict(data, expand_sweep(sweep, data["start"]))
        assert again == run and again.points[0].load == run.points[0].load and isinstance(again.points[0].load, Load)


def test_parameters_have_one_text_whatever_the_order_in_the_config(study: Study) -> None:
    backwards = {name: dict(reversed(spec.items())) for name, spec in TINY["models"].items()}
    other = load(changed(("models", backwards), ("sampling", {"top_p": 0.95, "temperature": 0.6})))
    assert repr(dicts(other)) == repr(dicts(study))
    assert repr(other.models) == repr(study.models)
    assert repr(canonical_json({"b": [{"d": 1, "c": 2}], "a": None})) == "{'a': None, 'b': [{'c': 2, 'd': 1}]}"


def test_one_more_budget_changes_the_runs_of_its_experiment_alone(study: Study) -> None:
    before, after = dicts(study), dicts(load(changed(("experiments.budget.budgets", [16, 32, 64]))))
    assert before.keys() == after.keys()
    assert {folder for folder in before if before[folder] != after[folder]} == set(before) - {SINGLE}
    fewer, more = (expand_sweep(runs[BUDGET]["sweep"], 1) for runs in (before, after))
    assert len(more) == 1.5 * len(fewer) and set(fewer) < set(more)


@pytest.mark.parametrize(
    "change",
    [
        ("models.new", {"source": "micro", "role": "llm", "pair": "new"}),
        ("models.new", {"source": "micro", "role": "draft"}),
        ("setups.cold", {"prefix_cache": False}),
        ("experiments.other", TINY["experiments"]["single"]),
        ("engines", ["vllm", "sglang"]),
        ("grading.timeout_s", 5),
    ],
)
def test_what_is_added_leaves_the_other_runs_as_they_were(study: Study, change: tuple[str, Any]) -> None:
    before, after = dicts(study), dicts(load(changed(change)))
    assert before.items() <= after.items()


def test_heads_are_known_for_micro_models_and_not_for_the_hubs(study: Study) -> None:
    assert attention_heads({"source": "micro", "role": "draft"}, "key") == 2
    assert attention_heads({"source": "hub", "role": "llm"}, "key") is None


SPECULATING = [
    ("engines", ["vllm", "sglang"]),
    ("setups", {"spec": {"speculative": "ngram"}}),
    ("experiments.budget.setups", ["baseline", "spec"]),
    ("experiments.budget.sampling", {"temperature": 0}),
]


def test_what_an_engine_cannot_do_ends_the_dry_run_or_is_marked() -> None:
    with pytest.raises(
        ConfigError, match=r"^setups\.spec\.speculative .*SGLang 0.5.15.post1 on cpu.*on_unsupported: mark"
    ) as caught:
        load(changed(*SPECULATING))
    assert "\n" not in str(caught.value)
    study = load(changed(*SPECULATING, ("on_unsupported", "mark")))
    marked = [(row["engine"], row["model"], row["setup"]) for row in study.unsupported]
    assert marked == [("sglang", "tiny-llm", "spec"), ("sglang", "tiny-rllm", "spec")]
    assert all("CUDA" in row["reason"] and row["experiment"] == "budget" for row in study.unsupported)
    setups = [(run.engine, run.setup) for run in study.runs.values() if run.experiment == "budget"]
    assert setups == 2 * [("vllm", "baseline"), ("sglang", "baseline"), ("vllm", "spec")]


def test_what_an_engine_can_do_only_greedily_is_refused_where_tokens_are_sampled() -> None:
    sampled = changed(*SPECULATING[:3], ("engines", ["vllm"]))
    with pytest.raises(ConfigError, match=r"^setups\.spec\.speculative at temperature > 0 .*vLLM 0.32.0 on cpu"):
        load(sampled)
    assert load(changed(("device", "cuda"), base=sampled)).runs


def test_a_draft_model_is_part_of_runs_that_use_it_alone() -> None:
    draft = ("models.small", {"source": "micro", "role": "draft"})
    setups = ("setups", {"spec": {"speculative": "draft", "draft_model": "small"}, "ngram": {"speculative": "ngram"}})
    options = load(changed(draft, setups, ("serving.draft_model", "small"))).options
    assert options("budget", "tiny-rllm", "spec").draft_model == "small"
    assert (
        options("budget", "tiny-rllm", "ngram").draft_model is None
        and options("budget", "tiny-rllm", "baseline").draft_model is None
    )
    asked = ("experiments.single.setups", ["spec"])
    with pytest.raises(ConfigError, match=r"^setups\.spec\.draft_model .*unknown 'tiny-llm'; allowed: small"):
        load(changed(draft, asked, ("setups", {"spec": {"speculative": "draft", "draft_model": "tiny-llm"}})))
    with pytest.raises(ConfigError, match=r"^setups\.spec\.draft_model .*unknown 'None'; allowed: small"):
        load(changed(draft, asked, ("setups", {"spec": {"speculative": "draft"}})))


def test_runs_are_compared_with_the_first_engine_and_with_the_baseline() -> None:
    setups = [("setups", {"cold": {"prefix_cache": False}}), ("experiments.budget.setups", ["baseline", "cold"])]
    study = load(changed(("engines", ["sglang", "vllm"]), *setups))
    mine = study.runs["budget/vllm/tiny-llm/bf16/cold/1"]
    assert study.baseline(mine, "engine") == "budget/sglang/tiny-llm/bf16/cold"
    assert study.baseline(mine, "baseline") == "budget/vllm/tiny-llm/bf16/baseline"
    first = study.runs["budget/sglang/tiny-llm/bf16/baseline/1"]
    assert study.baseline(first, "engine") is None and study.baseline(first, "baseline") is None
    assert study.comparisons("budget", "engine") == [
        (f"budget/sglang/{model}/bf16/{setup}", [f"budget/vllm/{model}/bf16/{setup}"])
        for model in ("tiny-llm", "tiny-rllm")
        for setup in ("baseline", "cold")
    ]
    assert study.comparisons("budget", "baseline") == [
        (f"budget/{engine}/{model}/bf16/baseline", [f"budget/{engine}/{model}/bf16/cold"])
        for model in ("tiny-llm", "tiny-rllm")
        for engine in ("sglang", "vllm")
    ]
    assert study.comparisons("single", "baseline") == []
    assert study.identical_to_baseline("budget") == []
    again = load(changed(("setups", {"again": {}}), ("experiments.budget.setups", ["baseline", "again"])))
    assert again.identical_to_baseline("budget") == [
        f"budget/vllm/{model}/bf16/again" for model in ("tiny-llm", "tiny-rllm")
    ]


def test_starts_have_requests_of_their_own_and_come_in_blocks() -> None:
    config = changed(
        ("experiments.budget.starts", 3), ("engines", ["vllm", "sglang"]), ("experiments.single.starts", 2)
    )
    study = load(config)
    runs = study.servers["budget"]["budget/vllm/tiny-llm/bf16/baseline"]
    assert [run.start for run in runs] == [1, 2, 3]
    assert [sorted({point.repeat for point in run.points}) for run in runs] == [[0, 1], [2, 3], [4, 5]]
    ordered = sorted(study.runs.values(), key=lambda run: -study.priorities[run.folder])
    assert [run.start for run in ordered] == [1] * 6 + [2] * 6 + [3] * 4
    assert len(set(study.priorities.values())) == 16
    assert study.priorities == load(config).priorities
    seeds = [load(changed(("seed", seed), base=config)).priorities for seed in range(5)]
    assert any(other != study.priorities for other in seeds)


def test_what_is_made_depends_on_the_experiments_that_are_asked_for() -> None:
    hub = {"source": "hub", "id": "a/b", "revision": "c", "role": "llm", "pair": "hub"}
    study = load(
        changed(
            ("models.hub", hub),
            ("quantizations", {"w8": {"method": "int8", "dataset": "facts"}}),
            ("experiments.budget.models", ["hub"]),
            ("experiments.single.quantizations", ["bf16", "w8"]),
            ("experiments.single.optional", True),
        )
    )
    assert study.default_experiments == ["budget"]
    assert study.environments(["budget"]) == ["vllm-cpu"]
    assert study.environments(study.experiments) == ["quantize-cpu", "train-cpu", "vllm-cpu"]
    assert study.checkpoints(["budget"]) == ["hub"] and study.quantized(["budget"]) == []
    assert study.quantized(study.experiments) == [("tiny-rllm", "w8")]


def test_a_hub_model_comes_from_its_folder_where_there_is_no_network(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"num_attention_heads": 3}')
    hub = {"source": "hub", "id": "some/model", "revision": "abc", "role": "llm", "pair": "tiny"}
    config = changed(("models.tiny-llm", hub), ("local_paths", {"some/model": str(tmp_path)}))
    study = load(config)
    assert study.models["tiny-llm"] == {**hub, "source": "path", "path": str(tmp_path)}
    with pytest.raises(ConfigError, match=r"tensor_parallel.*3 attention heads"):
        load(changed(("serving.tensor_parallel", 2), base=config))
    with pytest.raises(ConfigError, match=r"local_paths.some/model: .* is not there"):
        load(changed(("local_paths", {"some/model": str(tmp_path / "gone")}), base=config))


def test_one_checkpoint_may_think_or_not() -> None:
    runs = load(
        changed(
            (
                "models.tiny-llm",
                {"source": "hub", "id": "a/b", "revision": "c", "role": "llm", "pair": "p", "thinking": False},
            ),
        )
    ).runs
    assert runs[BUDGET].thinking is False
    assert runs[SINGLE].thinking is None
    assert Run.from_dict(runs[BUDGET].to_dict(), runs[BUDGET].points) == runs[BUDGET]
