"""Which tables and figures an experiment can give."""

from __future__ import annotations

import pytest
from helpers.studies import STREAM, TINY, changed, load
from rllm_serving.report.catalogue import FIGURES, TABLES, possible
from rllm_serving.study.study import Study
from unit.study.test_study import BUDGET, SINGLE

MODELS = ("tiny-llm", "tiny-rllm")


def figures(study: Study, experiment: str) -> list[str]:
    return possible(FIGURES, study, experiment)


def tables(study: Study, experiment: str) -> list[str]:
    return possible(TABLES, study, experiment)


@pytest.fixture(scope="module")
def study() -> Study:
    return load(TINY)


def test_an_experiment_gives_the_figures_that_it_sweeps_for(study: Study) -> None:
    assert figures(study, "budget") == ["budget", "timeline", "stragglers", "difficulty", "domain"]
    assert figures(study, "single") == ["timeline", "difficulty", "domain"]
    loads = [{"type": "batch", "size": size} for size in (1, 2)]
    assert "batch" in figures(load(changed(("experiments.budget.loads", loads))), "budget")


def test_derived_budgets_are_swept_and_checked_where_two_were_measured() -> None:
    for measured, checked in (([16, 32], True), ([32], False)):
        budgets = {"measured": measured, "derived": [8]}
        found = load(changed(("experiments.budget.budgets", budgets)))
        assert ("derived_budgets" in tables(found, "budget")) == checked and "budget" in figures(found, "budget")


def test_open_loop_loads_have_arrivals_and_a_capacity() -> None:
    study = load(changed(*STREAM))
    assert study.open_loop("stream") and not study.open_loop("budget")
    assert study.capacity("stream") == {
        f"vllm/{model}": study.servers["full"][f"full/vllm/{model}/bf16/baseline"] for model in MODELS
    }
    assert figures(study, "stream") == ["domain", "traffic"] and "traffic" in tables(study, "stream")
    [run, *_] = [run for run in study.runs.values() if run.experiment == "stream"]
    assert [point.name for point in run.points] == [f"easy__open-0.5x-gamma0.25__64__{n}" for n in range(3)]
    assert {point.keys["load_level"] for point in run.points} == {0.5}


def test_an_experiment_sets_its_own_sampling_and_asks_for_agreement_when_greedy(study: Study) -> None:
    assert tables(study, "single") == ["main", "worth", "stragglers", "difficulty", "domain"]
    greedy = ("experiments.single.sampling", {"temperature": 0})
    both = load(changed(("engines", ["vllm", "sglang"]), greedy))
    assert both.runs[SINGLE].sampling == {"temperature": 0, "top_p": 0.95}
    assert both.runs[BUDGET].sampling == {"temperature": 0.6, "top_p": 0.95}
    assert tables(both, "single")[5:] == ["engines", "agreement"] and tables(both, "budget")[5:] == ["engines"]
    assert "agreement" not in tables(load(changed(greedy)), "single")
    assert figures(both, "single")[-1] == "engines" and "engines" not in figures(study, "single")


def test_engines_are_compared_with_the_first_that_is_asked_for_also_where_it_cannot_serve() -> None:
    """n-gram speculation is refused by SGLang on CPU: vLLM, listed second, must not become the baseline."""
    study = load(
        changed(
            ("engines", ["sglang", "vllm"]),
            ("on_unsupported", "mark"),
            ("sampling.temperature", 0),
            ("setups", {"ngram": {"speculative": "ngram"}}),
            ("experiments.budget.setups", ["ngram", "baseline"]),
            ("experiments.single.setups", ["ngram"]),
        )
    )
    assert [tuple(server.split("/")[1::3]) for server in study.servers["budget"] if "/tiny-llm/" in server] == [
        *(("vllm", "ngram"), ("sglang", "baseline"), ("vllm", "baseline")),
    ]
    compared = [(f"budget/sglang/{m}/bf16/baseline", [f"budget/vllm/{m}/bf16/baseline"]) for m in MODELS]
    assert study.comparisons("budget", "engine") == compared
    # The experiment asks for SGLang first, and has nothing of it: nothing is compared, and no table promises it.
    assert study.comparisons("single", "engine") == []
    assert "engines" not in tables(study, "single") and "engines" not in figures(study, "single")
    # The order of the experiment's own list counts, not that of the study's.
    swapped = load(changed(("engines", ["sglang", "vllm"]), ("experiments.budget.engines", ["vllm", "sglang"])))
    run = swapped.runs["budget/sglang/tiny-llm/bf16/baseline/1"]
    assert swapped.baseline(run, "engine") == "budget/vllm/tiny-llm/bf16/baseline"
