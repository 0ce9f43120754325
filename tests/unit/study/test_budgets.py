"""Which budgets are measured, which are derived, and from what."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.studies import changed, load
from rllm_serving.study.budgets import Derivation, check_budgets, derivations, measured_budgets
from rllm_serving.study.config_errors import ConfigError


def experiment(budgets: Any, **load: Any) -> dict[str, Any]:
    return {"budgets": budgets, "loads": [{"type": "batch", "size": 2} | load]}


def test_a_list_is_measured_whole() -> None:
    assert measured_budgets(experiment([16, 32])) == [16, 32]
    assert derivations(experiment([16, 32])) == []


def test_each_budget_is_derived_from_the_next_larger_measured_one() -> None:
    found = derivations(experiment({"measured": [64, 16, 32], "derived": [40, 8]}))
    assert found == [
        Derivation(8, 16, is_check=False),
        Derivation(16, 32, is_check=True),
        Derivation(32, 64, is_check=True),
        Derivation(40, 64, is_check=False),
    ]


@pytest.mark.parametrize(
    ("budgets", "line"),
    [
        ({"measured": [32], "derived": [16, 16]}, r"\.derived: \[16, 16\] has the same entry twice"),
        ({"measured": [], "derived": [16]}, r"\.measured: must not be empty"),
        ({"measured": [32], "derived": []}, r"\.derived: must not be empty"),
        ({"measured": [32], "derived": [0]}, r"\.derived\.0: 0 is out of range"),
        ({"measured": [32], "dervied": [8]}, ": unknown key 'dervied'"),
        (32, ": 32 is not a list"),
    ],
)
def test_budgets_that_cannot_be_are_told_with_their_key(budgets: Any, line: str) -> None:
    with pytest.raises(ConfigError, match=rf"^experiments\.budget\.budgets{line}"):
        load(changed(("experiments.budget.budgets", budgets)))


def test_what_a_study_measures_does_not_depend_on_what_it_derives() -> None:
    plain = load(changed(("experiments.budget.budgets", [16, 32])))
    derived = load(changed(("experiments.budget.budgets", {"measured": [16, 32], "derived": [8, 24]})))
    assert {folder: (run, run.points) for folder, run in derived.runs.items()} == {
        folder: (run, run.points) for folder, run in plain.runs.items()
    }
    assert derived.sweeps == plain.sweeps
    assert [budget for budget, *_ in derived.derivations["budget"]] == [8, 16, 24]


def test_answers_of_a_server_that_already_runs_are_not_cut() -> None:
    entry = experiment({"measured": [32], "derived": [16]})
    with pytest.raises(ConfigError, match=r"x\.budgets\.derived: hosted is a server that already runs.*x\.engines"):
        check_budgets("x", entry, ["hosted"])
    check_budgets("x", experiment([32, 16]), ["hosted"])


def test_answers_of_a_made_length_are_not_cut() -> None:
    entry = experiment({"measured": [32], "derived": [16]}, type="trace", replay_output_lengths=True)
    with pytest.raises(ConfigError, match=r"x\.budgets\.derived: loads\.0 makes answers as long as its trace"):
        check_budgets("x", entry)
    check_budgets("x", experiment([32, 16], type="trace", replay_output_lengths=True))
