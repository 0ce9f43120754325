"""What a results folder of a study holds, as far as two studies are compared by it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from .request_metrics import CONDITION, SERVER

SAID = ["accuracy", "answered_rate", "output_tokens", "reasoning_tokens"]
"""What is known of each question, in the names of `comparison.compare`."""
QUESTIONS = [*SERVER, *CONDITION, "question_id", "requests", *SAID]
_CLAIMS = "claims.parquet"


@dataclass(frozen=True)
class StudyResults:
    """The results of one study.

    Attributes:
        starts: `points.Tables.starts` of its experiments.
        summary: `points.Tables.summary` of them.
        records: run.json of each of their runs.
        questions: a row a question, QUESTIONS (see `by_question`); empty where an
            experiment has no questions.parquet.
        comparisons: rows of comparison-*.parquet with verdicts, and `basis` ("engine" or "baseline"); empty: none.
        claims: claims.parquet, where there is one.
    """

    starts: pd.DataFrame
    summary: pd.DataFrame
    records: Sequence[Mapping[str, Any]]
    questions: pd.DataFrame
    comparisons: pd.DataFrame
    claims: pd.DataFrame | None = None

    @classmethod
    def read(cls, folder: Path) -> StudyResults:
        """Read those of the experiments that are in its summary.parquet."""
        summary = pd.read_parquet(folder / "summary.parquet")
        experiments = sorted(set(summary["experiment"]))
        runs = [file for name in experiments for file in sorted(folder.glob(f"runs/{name}/*/*/*/*/*/run.json"))]
        sums = [folder / "analysis" / name / "questions.parquet" for name in experiments]
        questions = pd.DataFrame(columns=QUESTIONS)
        if sums and all(file.is_file() for file in sums):
            questions = by_question(pd.concat(map(pd.read_parquet, sums), ignore_index=True))
        return cls(
            starts=pd.read_parquet(folder / "starts.parquet"),
            summary=summary,
            records=[json.loads(file.read_text(encoding="utf-8")) for file in runs],
            questions=questions,
            comparisons=_comparisons(folder, experiments),
            claims=pd.read_parquet(folder / _CLAIMS) if (folder / _CLAIMS).is_file() else None,
        )


def _comparisons(folder: Path, experiments: Sequence[str]) -> pd.DataFrame:
    frames = []
    for name in experiments:
        for file in sorted(folder.glob(f"analysis/{name}/comparison-*.parquet")):
            frame = pd.read_parquet(file)
            if "verdict" in frame:
                frames.append(frame.assign(basis=file.stem.partition("-")[2]))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def by_question(sums: pd.DataFrame) -> pd.DataFrame:
    """Return the means over the requests of each question, of all starts and repeats of a server and condition.

    Args:
        sums: rows of `question_table`.

    Returns:
        QUESTIONS: number of requests; accuracy and answered_rate (0 to 1) of all of them, output_tokens and
        reasoning_tokens of completed ones; NaN where there is none.
    """
    completed = sums["completed"].where(sums["completed"] > 0)
    return sums.assign(
        accuracy=sums["correct"] / sums["requests"],
        answered_rate=sums["answered"] / sums["requests"],
        output_tokens=sums["output_tokens"] / completed,
        reasoning_tokens=sums["reasoning_tokens"] / completed,
    )[QUESTIONS]
