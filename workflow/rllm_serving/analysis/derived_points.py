"""Points under budgets that were not measured: answers that were cut out of those under a larger one.

What a model says is known of them, times are not; see `grading.cutting`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from .request_metrics import GRADED, POINT, SERVER, read_derived


def with_derived(
    requests: pa.Table, grades: pd.DataFrame, files: Sequence[Path | str], texts: bool
) -> tuple[pa.Table, pd.DataFrame]:
    """Return requests and grades of a server with those that were derived for budgets which it did not measure.

    Args:
        requests: measured ones of one server, as `request_metrics.read` returns them.
        grades: theirs.
        files: cut answers of several servers.
        texts: see `request_metrics.read`.
    """
    cut = cut_answers(requests, files, texts)
    cut = cut.filter(pc.invert(pc.is_in(cut["budget"], value_set=pc.unique(requests["budget"]))))
    keys = [name for name in grades.columns if name in cut.column_names]
    graded = cut.select(keys).to_pandas()
    together = pa.concat_tables([requests, cut.drop_columns(GRADED)], promote_options="default")
    return together, pd.concat([grades, graded], ignore_index=True)


def cut_answers(requests: pa.Table, files: Sequence[Path | str], texts: bool) -> pa.Table:
    """Return the cut answers of the server of `requests`: `request_metrics.read_derived` of all its budgets."""
    cut = pa.concat_tables([read_derived(path, texts) for path in files])
    for name in SERVER:
        cut = cut.filter(pc.equal(cut[name], requests[name][0]))
    return cut


def with_derived_points(recorded: pd.DataFrame, requests: pa.Table) -> pd.DataFrame:
    """Return the records of a server's points with a row for each derived one: invalid as its source is, else empty.

    Args:
        recorded: POINT, `invalid` and more, of the measured points.
        requests: of the server, derived ones among them.
    """
    if "derived_from" not in requests.column_names:
        return recorded
    condition = ["dataset", "load", "budget", "derived_from"]
    derived = requests.select(condition).to_pandas().dropna(subset="derived_from").drop_duplicates()
    sources = recorded[[*POINT, "invalid"]].rename(columns={"budget": "derived_from"})
    found = derived.merge(sources, on=["dataset", "load", "derived_from"])
    reasons = [
        None if pd.isna(why) else f"under {source:.0f} tokens: {why}"
        for why, source in zip(found["invalid"], found["derived_from"], strict=True)
    ]
    rows = found[POINT].assign(invalid=pd.Series(reasons, found.index, object))
    return pd.concat([recorded, rows.reindex(columns=recorded.columns)], ignore_index=True)
