"""Sums a question: from them come the means that tables show, and what is unknown stays unknown."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import run_fixtures
from helpers.analysed import summary
from rllm_serving.analysis.question_table import COLUMNS, question_table
from rllm_serving.analysis.server_data import ServerData

CONDITION = ["dataset", "load", "budget"]


@pytest.fixture(scope="module")
def server() -> ServerData:
    small: dict[str, Any] = {"loads": (4,), "budgets": (32, 512), "questions": 8, "fail": 0.2}
    requests, grades, samples, record = run_fixtures.study(("vllm",), run_fixtures.PAIRS, **small)[-1]
    return ServerData(requests, grades, samples, [record])


def test_means_over_questions_are_those_of_the_summary(server: ServerData) -> None:
    table = question_table(server)
    assert list(table.columns) == COLUMNS
    sums = table.groupby(CONDITION)[["requests", "completed", "correct", "answered", "failed", "output_tokens"]].sum()
    rows = summary(server).set_index(CONDITION)
    assert sums["failed"].sum() > 0
    for name, top, bottom in (
        ("accuracy", "correct", "requests"),
        ("answered_rate", "answered", "requests"),
        ("failed_rate", "failed", "requests"),
        ("output_tokens_mean", "output_tokens", "completed"),
    ):
        found = (sums[top] / sums[bottom]).reindex(rows.index)
        assert found.to_numpy() == pytest.approx(rows[name].to_numpy(dtype=float)), name


def test_a_question_with_an_ungraded_answer_has_no_number_of_correct_ones(server: ServerData) -> None:
    assert server.grades is not None
    grades = server.grades.astype({"correct": float})
    grades.loc[grades.index[0], "correct"] = np.nan
    table = question_table(ServerData(server.requests, grades, server.samples, server.records))
    assert table["correct"].isna().sum() == 1
    assert table["requests"].notna().all()


def test_invalid_points_are_left_out_where_a_condition_has_others() -> None:
    """A late repeat of one condition; and a condition that has nothing but late points."""
    small: dict[str, Any] = {"loads": (4,), "budgets": (32, 512), "questions": 8, "repeats": 2}
    requests, grades, samples, record = run_fixtures.study(("vllm",), run_fixtures.PAIRS, **small)[-1]
    late = [
        point | {"invalid": "late" if point["repeat"] == 1 or point["budget"] == 32 else None}
        for point in record["points"]
    ]
    every, marked = (ServerData(requests, grades, samples, [entry]) for entry in (record, record | {"points": late}))
    asked = question_table(every).groupby("budget")["requests"].unique()
    valid = question_table(marked.valid()).groupby("budget")["requests"].unique()
    assert valid[512].tolist() == [asked[512].item() - 1] and valid[32].tolist() == asked[32].tolist()
