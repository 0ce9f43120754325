"""Whether all servers of a model were given the same prompts: as many tokens of each question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from ..schemas import SERVER_KEYS

PROMPT = ["model", "dataset", "question_id"]
SHOWN = 3
"""Servers that a reason names."""


def prompt_faults(files: Mapping[str, Sequence[Path | str]]) -> dict[tuple[str, str], str]:
    """Compare how many tokens the prompt of one question has on all servers of its model.

    Engines encode prompts themselves. Where one question is not the same number of tokens everywhere, some of them
    read another text than the others, and nothing tells which: none of what that dataset's questions measured can be
    compared.

    Args:
        files: server -> requests.parquet of each of its starts, of one experiment.

    Returns:
        (server, dataset) -> a reason, of all servers of the model, where they differ.
    """
    counts = pd.concat([_counts(server, paths) for server, paths in files.items()], ignore_index=True)
    different = counts.groupby(PROMPT)["prompt_tokens"].transform("nunique") > 1
    faults = {}
    for (model, dataset), part in counts[different].groupby(["model", "dataset"]):
        reason = _reason(part)
        asked = counts[(counts["model"] == model) & (counts["dataset"] == dataset)]
        faults.update(dict.fromkeys(((server, str(dataset)) for server in asked["server"].unique()), reason))
    return faults


def _counts(server: str, paths: Sequence[Path | str]) -> pd.DataFrame:
    """Return every question with each number of its prompt tokens: server, SERVER_KEYS, PROMPT, prompt_tokens."""
    names = [*SERVER_KEYS, *PROMPT[1:], "prompt_tokens"]
    tables = [pq.read_table(path, columns=names).group_by(names).aggregate([]) for path in paths]
    frame = pd.concat([table.to_pandas() for table in tables], ignore_index=True)
    known = frame[frame["prompt_tokens"].notna()].drop_duplicates()
    return known.assign(server=server, prompt_tokens=known["prompt_tokens"].astype(int))


def _reason(part: pd.DataFrame) -> str:
    """Say it with the first question whose prompts differ; by engine, if that is what they differ by."""
    questions = part["question_id"].unique()
    first = part[part["question_id"] == questions[0]]
    by_engine = first.groupby("engine", sort=False)["prompt_tokens"].unique()
    if len(by_engine) > 1 and (by_engine.map(len) == 1).all():
        named = [f"{engine} {counts[0]}" for engine, counts in by_engine.items()]
    else:
        rows = first.drop_duplicates("prompt_tokens")
        named = [
            f"{row.engine}/{row.quantization}/{row.setup} {row.prompt_tokens}" for row in rows.itertuples(index=False)
        ]
    more = f" and of {len(questions) - 1} more" if len(questions) > 1 else ""
    return f"prompt tokens of question {questions[0]}{more} differ between servers: {', '.join(named[:SHOWN])}"
