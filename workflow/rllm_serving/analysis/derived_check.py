"""Whether deriving budgets is right: measured budgets, set beside what would have been derived for them.

Where a larger budget was measured, too, the answers under it are cut and compared with the measured ones, request by
request. With the same draws they are the same but for rounding; without, they are another sample of the same model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from ..serving.engines import ENGINES
from .derived_points import cut_answers
from .intervals import Array, Codes, codes, paired_difference, share
from .request_metrics import CONDITION, GRADED, POINT, SERVER
from .says import interval_columns
from .server_data import ServerData

SAMPLE = [*POINT, "question_id", "sample"]
"""Name a request of a server, whatever the order that its point sent them in."""
ALL = "all"
AGREEMENT = ["same_verdict", "same_text", "same_end"]
"""Shares of requests: as right or wrong as measured; the same text; ended alike, by itself or by the budget."""
DIFFERENCES = {"accuracy": "correct", "answered_rate": "answered"}
"""Rates whose difference (derived - measured) is told: name -> column of a request."""
COLUMNS = [
    *SERVER,
    *CONDITION,
    "derived_from",
    "draws",
    "num_requests",
    "identical_cells",
    "cells",
    "cut_in_chunk_rate",
]
COLUMNS += [*(f"{name}{end}" for name in AGREEMENT for end in ("", "_low", "_high"))]
COLUMNS += [
    f"{name}{part}"
    for name in DIFFERENCES
    for part in ("", "_derived", "_difference", "_difference_low", "_difference_high")
]


def check_derived(servers: Iterable[tuple[ServerData, Sequence[Path | str]]]) -> pd.DataFrame:
    """Return how measured budgets agree with derived ones: a row an engine, then a row a server and condition.

    Columns: COLUMNS. derived_from: measured budget that the answers were cut from. draws: "same" where a request's seed
    or greedy sampling decides them, else "another sample". cells: conditions (of the row of an engine, whose other keys
    are ALL), identical_cells those of which every text is the same. cut_in_chunk_rate: share of requests whose cut
    fell within a chunk that could not be divided, so that up to a chunk's text is missing. AGREEMENT with intervals
    over questions; of DIFFERENCES the measured value, the derived one, and their paired difference with its interval.
    Rates are missing where answers are not graded.

    Args:
        servers: what each measured, with texts, and the files of cut answers.
    """
    found = [table for server, files in servers if len(table := _pairs(server, files))]
    if not found:
        return pd.DataFrame(columns=COLUMNS)
    pairs = pd.concat(found, ignore_index=True)
    keys = [*SERVER, *CONDITION, "derived_from", "draws"]
    rows = [_row(part, dict(zip(keys, key, strict=True))) for key, part in pairs.groupby(keys, sort=True)]
    shared = ["experiment", "engine", "draws"]
    of_engines = [
        _row(part, {**dict.fromkeys((*SERVER, "dataset", "load"), ALL), **dict(zip(shared, key, strict=True))})
        for key, part in pairs.groupby(shared, sort=True)
    ]
    return pd.DataFrame([*of_engines, *rows], columns=COLUMNS)


def _pairs(server: ServerData, files: Sequence[Path | str]) -> pd.DataFrame:
    """Each measured request beside the cut answer to the same question: columns of both, `_derived` behind the latter.

    Points beyond a validity gate are left out on either side.
    """
    valid = server.valid()
    measured = _numbered(valid.frame[valid.frame["derived_from"].isna()].drop(columns="derived_from"))
    cut = cut_answers(server.requests, files, texts=True)
    cut = cut.filter(pc.is_in(cut["budget"], value_set=pc.unique(server.requests["budget"])))
    columns = [*POINT, "index", "question_id", "derived_from", "cut", "has_visible_text"]
    derived = _numbered(cut.select([*columns, "said", "finish_reason", "status", *GRADED]).to_pandas())
    known = pd.MultiIndex.from_frame(measured[POINT].drop_duplicates())
    sources = pd.MultiIndex.from_frame(derived[["dataset", "load", "derived_from", "repeat"]])
    # Columns that both have are the measured side's, those of the cut answers end in _derived.
    measured = measured.drop(columns=["has_visible_text", "cut"], errors="ignore")
    pairs = measured.merge(derived[sources.isin(known)], on=SAMPLE, suffixes=("", "_derived"), validate="one_to_one")
    return pairs.assign(draws=_draws(server))


def _numbered(requests: pd.DataFrame) -> pd.DataFrame:
    """Requests with `sample`, the number of each among those to the same question of a point."""
    ordered = requests.sort_values("index", kind="stable")
    return ordered.assign(sample=ordered.groupby([*POINT, "question_id"]).cumcount())


def _draws(server: ServerData) -> str:
    """Whether a request of a larger budget draws as that of a smaller one does."""
    config = server.records[0]["config"]
    same = config["sampling"]["temperature"] == 0 or ENGINES[config["engine"]].heeds_request_seeds
    return "same" if same else "another sample"


def _row(pairs: pd.DataFrame, keys: dict[str, Any]) -> dict[str, Any]:
    question: Codes = codes((pairs["dataset"] + "/" + pairs["question_id"].astype(str)).to_numpy(dtype=str))
    same_text = (pairs["said"] == pairs["said_derived"]).to_numpy()
    cells = pairs.assign(same=same_text).groupby([*SERVER, *CONDITION])["same"].all()
    row = keys | {"num_requests": len(pairs), "cells": len(cells), "identical_cells": int(cells.sum())}
    row["cut_in_chunk_rate"] = float((pairs["cut"] == "before-chunk").mean())
    graded = pairs["correct"].notna().all() and pairs["correct_derived"].notna().all()
    alike = {"same_text": same_text, "same_end": (pairs["finish_reason"] == pairs["finish_reason_derived"]).to_numpy()}
    if graded:
        alike["same_verdict"] = (pairs["correct"].astype(bool) == pairs["correct_derived"].astype(bool)).to_numpy()
    for name, hits in alike.items():
        row |= interval_columns(name, share(hits.astype(float), question))
    answered = (pairs["status_derived"] == "ok") & pairs["has_visible_text"].eq(True)
    sides = {"answered_rate": (answered, pairs["answered"])}
    if graded:
        sides["accuracy"] = (pairs["correct_derived"], pairs["correct"])
    for name, (derived, measured) in sides.items():
        values: list[Array] = [np.asarray(side, dtype=float) for side in (derived, measured)]
        row |= {f"{name}_derived": float(np.mean(values[0])), name: float(np.mean(values[1]))}
        found = paired_difference(values[0], values[1], question).interval()
        row |= interval_columns(f"{name}_difference", found)
    return row
