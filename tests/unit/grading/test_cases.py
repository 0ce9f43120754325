"""Answers as models write them, from public reports and of our own: each is found, and graded, as it should be."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from conftest import ROOT
from rllm_serving.datasets.loaders import QUESTION_SCHEMA
from rllm_serving.grading.extraction import extract
from rllm_serving.grading.grader import Grader
from rllm_serving.measurement.rows import REQUESTS
from rllm_serving.schemas import SERVER_KEYS

FOLDER = ROOT / "tests" / "data" / "grading"


def cases(kind: str) -> list[dict[str, Any]]:
    lines = (FOLDER / f"{kind}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def graded(kind: str) -> list[dict[str, Any]]:
    """Rows of grades, each with its case."""
    found = cases(kind)
    question: dict[str, Any] = {"question": "?", "kind": kind, "domain": "d", "difficulty": "easy"}
    question["choices"] = list("ABCDEFGHIJKLMNOPQRSTUVWXYZ") if kind == "choice" else []
    questions = [question | {"question_id": str(n), "gold": case["gold"]} for n, case in enumerate(found)]
    request: dict[str, Any] = dict.fromkeys(SERVER_KEYS, "x") | {
        "dataset": "set",
        "load": "batch-1",
        "budget": 64,
        "repeat": 0,
    }
    request |= {"status": "ok", "finish_reason": "stop"}
    requests = [
        request | {"index": n, "question_id": str(n), "answer_text": case["answer"]} for n, case in enumerate(found)
    ]
    golds = {"set": pa.Table.from_pylist(questions, schema=QUESTION_SCHEMA)}
    with Grader(golds, workers=2, timeout_s=20) as grader:
        rows = grader.grade(pa.Table.from_pylist(requests, schema=REQUESTS)).to_pylist()
    return [case | row for case, row in zip(found, rows, strict=True)]


@pytest.mark.parametrize("kind", ["number", "choice", "math"])
def test_verdicts_are_the_expected_ones(kind: str) -> None:
    shown = ("why", "gold", "answer", "extracted", "grader", "expected")
    rows = [{name: row[name] for name in shown} for row in graded(kind) if row["correct"] != row["expected"]]
    assert rows == []


@pytest.mark.parametrize("case", cases("code"), ids=lambda case: case["why"])
def test_the_code_that_is_meant_is_found(case: dict[str, Any]) -> None:
    assert extract(case["answer"], "code", entry_point=case["entry_point"]) == case["expected"]


@pytest.mark.parametrize("kind", ["number", "choice", "math", "code"])
def test_every_case_says_why_and_where_from(kind: str) -> None:
    assert all(case["why"] and case["source"] for case in cases(kind))
