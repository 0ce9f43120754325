"""Two servers of one experiment by condition: the same requests of both, and whether they may be compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from .intervals import Codes, codes
from .request_metrics import CONDITION, POINT, SERVER, as_slice_if_contiguous
from .server_data import ServerData


def with_validity(frame: pd.DataFrame, candidate: ServerData, baseline: ServerData) -> pd.DataFrame:
    """Rows of a comparison with `invalid` and `invalid_baseline`: why a side's points are beyond a validity gate.

    Missing where they are not. A comparison with an invalid baseline is invalid itself.
    """
    keys = POINT[:-1]
    candidate_reasons, baseline_reasons = (
        [reasons.get(tuple(key)) for key in frame[keys].itertuples(index=False)]
        for reasons in (_reasons(side) for side in (candidate, baseline))
    )
    joined = [
        "; ".join(text for text in (candidate_reason, baseline_reason and f"baseline: {baseline_reason}") if text)
        or None
        for candidate_reason, baseline_reason in zip(candidate_reasons, baseline_reasons, strict=True)
    ]
    return frame.assign(
        invalid=pd.Series(joined, frame.index, object),
        invalid_baseline=pd.Series(baseline_reasons, frame.index, object),
    )


def _reasons(server: ServerData) -> dict[Any, str]:
    """Condition -> why all its points are invalid; those of which some are valid are compared by these."""
    condition = POINT[:-1]
    marked = server.recorded
    whole = marked[marked["invalid"].notna().groupby([marked[name] for name in condition]).transform("all")]
    return whole.groupby(condition)["invalid"].agg(lambda reasons: "; ".join(dict.fromkeys(reasons))).to_dict()


@dataclass(frozen=True)
class Condition:
    """The part of a side that belongs to one condition.

    Attributes:
        requests: rows of `ServerData.frame` in the order of repeat and index.
        chunks: `Chunks.take` of the completed ones.
        samples: rows of server.parquet.
    """

    requests: pd.DataFrame
    chunks: pd.DataFrame
    samples: pd.DataFrame


def conditions(
    candidate: ServerData, baseline: ServerData
) -> Iterator[tuple[dict[str, Any], tuple[Condition, Condition], Codes]]:
    """Each condition that two servers have in common: its keys, its part of both, the question of each request.

    keys: SERVER of the candidate, `against` (the baseline's engine/quantization/setup), CONDITION, derived_from (NaN
    where the condition was measured). Invalid points are
    left out where a condition has others; repeats that only one side has then, too.

    Raises:
        ValueError: when the two did not ask the same questions.
    """
    sides = (candidate.valid(), baseline.valid())
    against = "/".join(baseline.frame[["engine", "quantization", "setup"]].iloc[0])
    server: dict[str, Any] = dict(zip(SERVER, candidate.frame[SERVER].iloc[0], strict=True))
    groups: list[dict[Any, Any]] = [side.frame.groupby(CONDITION, sort=True).indices for side in sides]
    samples: list[dict[Any, pd.DataFrame]] = [
        {} if side.samples is None else dict(tuple(side.samples.groupby(CONDITION))) for side in sides
    ]
    for key in sorted(groups[0].keys() & groups[1].keys()):
        repeats = [set(side.frame["repeat"].to_numpy()[group[key]]) for side, group in zip(sides, groups, strict=True)]
        common = sorted(repeats[0] & repeats[1])
        if not common:
            continue
        parts = [
            _condition(side, group[key], sampled.get(key), common)
            for side, group, sampled in zip(sides, groups, samples, strict=True)
        ]
        requested = [part.requests[["question_id", "repeat"]] for part in parts]
        if not requested[0].equals(requested[1]):
            raise ValueError("the two servers were asked different questions; measure them again with the same config")
        keys = {**server, "against": against, **dict(zip(CONDITION, key, strict=True))}
        keys["derived_from"] = parts[0].requests["derived_from"].iloc[0]
        yield keys, (parts[0], parts[1]), codes(requested[0]["question_id"].astype(str))


def _condition(server: ServerData, rows: Any, samples: pd.DataFrame | None, repeats: list[int]) -> Condition:
    rows = np.asarray(rows)
    rows = rows[np.isin(server.frame["repeat"].to_numpy()[rows], repeats)]
    index, repeat = (server.frame[name].to_numpy()[rows] for name in ("index", "repeat"))
    order = rows[np.lexsort((index, repeat))]
    group = server.frame.iloc[as_slice_if_contiguous(order)].reset_index(drop=True)
    if samples is None:
        samples = pd.DataFrame() if server.samples is None else server.samples.iloc[:0]
    return Condition(group, server.chunks.take(order, group["completed"].to_numpy()), samples)
