"""A results folder as two studies are compared by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from helpers.two_studies import keys, record, study
from rllm_serving.analysis.results_folder import StudyResults, by_question


def sums() -> pd.DataFrame:
    """Two questions, asked twice; the second one fails once. Tokens are 10 in one request, 20 in the other."""
    known: list[dict[str, Any]] = [
        {"question_id": "q0", "completed": 2, "answered": 2, "correct": 2.0, "output_tokens": 30.0},
        {"question_id": "q1", "completed": 1, "answered": 1, "correct": 1.0, "output_tokens": 10.0},
    ]
    return pd.DataFrame([keys("m_llm", "d") | {"requests": 2, "reasoning_tokens": 5.0} | row for row in known])


def test_requests_of_a_question_are_averaged() -> None:
    found: Any = by_question(sums()).set_index("question_id")
    assert found.loc["q0", ["accuracy", "answered_rate", "output_tokens"]].tolist() == [1, 1, 15]
    assert found["requests"].tolist() == [2, 2]
    # Failed requests are wrong and unanswered, and their tokens do not count.
    assert found.loc["q1", ["accuracy", "answered_rate", "output_tokens"]].tolist() == [0.5, 0.5, 10]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = study({})
    made.starts.to_parquet(tmp_path / "starts.parquet")
    made.summary.to_parquet(tmp_path / "summary.parquet")
    run = tmp_path / "runs" / "e" / "vllm" / "m_llm" / "bf16" / "baseline" / "1"
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps(record("m_llm")))
    analysed = tmp_path / "analysis" / "e"
    analysed.mkdir(parents=True)
    sums().to_parquet(analysed / "questions.parquet")
    verdict = pd.DataFrame([keys("m_llm", "d", "fast") | {"metric": "tpot", "verdict": "changed"}])
    verdict.to_parquet(analysed / "comparison-baseline.parquet")
    # Of an experiment that is not in the summary.
    other = tmp_path / "runs" / "optional" / "vllm" / "m_llm" / "bf16" / "baseline" / "1"
    other.mkdir(parents=True)
    (other / "run.json").write_text("{}")
    return tmp_path


def test_a_folder_is_read(folder: Path) -> None:
    found = StudyResults.read(folder)
    assert len(found.records) == 1 and len(found.summary) == 2 and len(found.starts) == 6
    assert found.questions["question_id"].tolist() == ["q0", "q1"]
    assert found.comparisons[["basis", "verdict"]].to_numpy().tolist() == [["baseline", "changed"]]
    assert found.claims is None
    pd.DataFrame({"claim": ["C1"]}).to_parquet(folder / "claims.parquet")
    claims = StudyResults.read(folder).claims
    assert claims is not None and claims["claim"].tolist() == ["C1"]


def test_without_tables_of_questions_nothing_is_known_by_question(folder: Path) -> None:
    (folder / "analysis" / "e" / "questions.parquet").unlink()
    assert StudyResults.read(folder).questions.empty
