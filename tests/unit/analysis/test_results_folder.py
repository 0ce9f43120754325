"""A results folder as two studies are compared by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from helpers.two_studies import keys, record, study
from rllm_serving.analysis.results_folder import StudyResults, by_question, invalid_points

SERVER = {name: keys("m_llm", "")[name] for name in ("experiment", "engine", "model", "quantization", "setup")}


def requests(repeats: int = 2) -> pd.DataFrame:
    """Two questions, asked once in each repeat; the second one fails in the last."""
    rows = []
    for repeat in range(repeats):
        for index in range(2):
            failed = index == 1 and repeat == repeats - 1
            row: dict[str, Any] = keys("m_llm", "d") | {"repeat": repeat, "index": index, "question_id": f"q{index}"}
            row |= {"status": "http" if failed else "ok", "first_visible_token": None if failed else 0.1}
            rows.append(row | {"output_tokens": 10 * (repeat + 1), "reasoning_tokens": 5})
    return pd.DataFrame(rows)


def grades(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.drop(columns=["load_level", "question_id", "status", "first_visible_token"]).assign(
        correct=frame["status"] == "ok"
    )[[*SERVER, "dataset", "load", "budget", "repeat", "index", "correct"]]


def point(repeat: int, invalid: str | None, dataset: str = "d") -> dict[str, Any]:
    return {"dataset": dataset, "load": "batch-4", "budget": 64, "repeat": repeat, "invalid": invalid}


def test_requests_of_a_question_are_averaged() -> None:
    frame = requests()
    found: Any = by_question(frame, grades(frame), invalid_points([])).set_index("question_id")
    assert found.loc["q0", ["accuracy", "answered_rate", "output_tokens"]].tolist() == [1, 1, 15]
    assert found["requests"].tolist() == [2, 2]
    # Failed requests are wrong and unanswered, and their tokens do not count.
    assert found.loc["q1", ["accuracy", "answered_rate", "output_tokens"]].tolist() == [0.5, 0.5, 10]


def test_invalid_points_are_left_out_where_a_condition_has_others() -> None:
    points = [point(0, None), point(1, "late"), point(0, "late", "e")]
    left_out = invalid_points([{"server": SERVER, "points": points}])
    assert left_out[["dataset", "repeat"]].to_numpy().tolist() == [["d", 1]]
    frame = requests()
    found = by_question(frame, grades(frame), left_out)
    assert found["output_tokens"].tolist() == [10, 10] and (found["accuracy"] == 1).all()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = study({})
    made.starts.to_parquet(tmp_path / "starts.parquet")
    made.summary.to_parquet(tmp_path / "summary.parquet")
    run = tmp_path / "runs" / "e" / "vllm" / "m_llm" / "bf16" / "baseline" / "1"
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps(record("m_llm")))
    requests().to_parquet(run / "requests.parquet")
    graded = tmp_path / "analysis" / "e" / "grades"
    graded.mkdir(parents=True)
    grades(requests()).to_parquet(graded / "m_llm.parquet")
    verdict = pd.DataFrame([keys("m_llm", "d", "fast") | {"metric": "tpot", "verdict": "changed"}])
    verdict.to_parquet(graded.parent / "comparison-baseline.parquet")
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


def test_without_requests_or_grades_nothing_is_known_by_question(folder: Path) -> None:
    for file in folder.glob("runs/e/*/*/*/*/*/requests.parquet"):
        file.unlink()
    assert StudyResults.read(folder).questions.empty
