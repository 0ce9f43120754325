"""What a results folder of a study holds, as far as two studies are compared by it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from .request_metrics import CONDITION, SERVER
from .server_data import POINT

SAID = ["accuracy", "answered_rate", "output_tokens", "reasoning_tokens"]
"""What is known of each question, in the names of `comparison.compare`."""
QUESTIONS = [*SERVER, *CONDITION, "question_id", "requests", *SAID]
_GRADED = [*SERVER, *POINT, "index"]
_REQUESTS = [*SERVER, *CONDITION, "repeat", "index", "question_id", "status", "first_visible_token"]
_REQUESTS += ["output_tokens", "reasoning_tokens"]
_CLAIMS = "claims.parquet"


@dataclass(frozen=True)
class StudyResults:
    """The results of one study.

    Attributes:
        starts: `points.Tables.starts` of its experiments.
        summary: `points.Tables.summary` of them.
        records: run.json of each of their runs.
        questions: a row a question, QUESTIONS (see `by_question`); empty where requests or grades are not there.
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
        records = [json.loads(file.read_text(encoding="utf-8")) for file in runs]
        requests = [file.with_name("requests.parquet") for file in runs]
        grades = [file for name in experiments for file in sorted(folder.glob(f"analysis/{name}/grades/*.parquet"))]
        questions = pd.DataFrame(columns=QUESTIONS)
        if runs and grades and all(file.is_file() for file in requests):
            rows = pd.concat([pd.read_parquet(file, columns=_REQUESTS) for file in requests], ignore_index=True)
            graded = pd.concat([pd.read_parquet(file, columns=[*_GRADED, "correct"]) for file in grades])
            questions = by_question(rows, graded, invalid_points(records))
        return cls(
            starts=pd.read_parquet(folder / "starts.parquet"),
            summary=summary,
            records=records,
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


def invalid_points(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the points that a summary leaves out: SERVER and POINT of those beyond a gate whose condition has others.

    Args:
        records: run.json of each run.
    """
    rows = [
        {**record["server"], **{name: point[name] for name in POINT}, "bad": point.get("invalid") is not None}
        for record in records
        for point in record["points"]
    ]
    marked = pd.DataFrame(rows, columns=[*SERVER, *POINT, "bad"]).astype({"bad": bool})
    some_good = ~marked.groupby([*SERVER, *POINT[:-1]])["bad"].transform("all")
    return marked.loc[marked["bad"] & some_good, [*SERVER, *POINT]]


def by_question(requests: pd.DataFrame, grades: pd.DataFrame, left_out: pd.DataFrame) -> pd.DataFrame:
    """Return the means over the requests of each question, of all starts and repeats of a server and condition.

    Args:
        requests: columns of requests.parquet.
        grades: columns of grades.parquet.
        left_out: points that do not count, see `invalid_points`.

    Returns:
        QUESTIONS: their number, accuracy and answered_rate (0 to 1) of all requests, output_tokens and
        reasoning_tokens of completed ones; NaN where there is none.
    """
    out = pd.MultiIndex.from_frame(left_out)
    kept = requests[~pd.MultiIndex.from_frame(requests[[*SERVER, *POINT]]).isin(out)] if len(out) else requests
    rows = kept.merge(grades, on=_GRADED, how="left", validate="one_to_one")
    ok = rows["status"] == "ok"
    said = {
        "accuracy": rows["correct"].astype(float),
        "answered_rate": (ok & rows["first_visible_token"].notna()).astype(float),
        **{name: rows[name].where(ok).astype(float) for name in ("output_tokens", "reasoning_tokens")},
    }
    groups = rows.assign(**said).groupby([*SERVER, *CONDITION, "question_id"], sort=True)
    return groups[SAID].mean().assign(requests=groups.size()).reset_index()[QUESTIONS]
