"""What a model said to each question: sums from which any mean over questions, and its error, can be made."""

from __future__ import annotations

import pandas as pd

from .request_metrics import CONDITION, SERVER
from .server_data import ServerData

KEYS = [*SERVER, *CONDITION, "question_id", "difficulty", "domain"]
COUNTS = ["completed", "answered", "truncated", "failed"]
LENGTHS = ["output_tokens", "reasoning_tokens", "answer_tokens"]
COLUMNS = [*KEYS, "derived_from", "requests", *COUNTS, "correct", *LENGTHS]


def question_table(server: ServerData) -> pd.DataFrame:
    """Return a row a condition and question of a server, all its starts and repeats together, with COLUMNS.

    derived_from: budget that the answers were cut from, missing where they were measured; requests: asked; completed,
    answered, truncated, failed: of these; correct: of these, missing where one is not graded or was made to have a
    length; LENGTHS: tokens of completed requests, missing where one was not counted.
    """
    frame = server.frame
    ok = frame["completed"]
    values = pd.DataFrame(
        {
            "requests": 1,
            "completed": ok.astype(int),
            "answered": frame["answered"].astype(int),
            "truncated": (ok & (frame["finish_reason"] == "length")).astype(int),
            "failed": (~ok).astype(int),
            "correct": frame["correct"].where(frame["forced_output_tokens"].isna()),
            **{name: frame[name].where(ok, 0) for name in LENGTHS},
        }
    )
    keys = [frame[name] for name in KEYS]
    groups = values.groupby(keys, sort=True, dropna=False)
    sums = groups.sum()
    known = groups.count()
    for name in ("correct", *LENGTHS):
        sums[name] = sums[name].astype(float).where(known[name] == sums["requests"])
    sums["derived_from"] = frame.groupby(keys, sort=True, dropna=False)["derived_from"].first()
    return sums.reset_index()[COLUMNS]
