"""Which rows of a table are about servers that the workflow did not start: nothing of them is controlled."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from ..schemas import OWN_ENGINES
from .table_forms import Table

COLUMN = "control"
STARTED, NOT_CONTROLLED = "started here", "not controlled"


def with_control(table: Table) -> Table:
    """Return the table with a column that says so behind the engine, where it has such rows; else as it is.

    A comparison is controlled if both of its servers are: `against` begins with the engine of the other one.
    """
    frame = table.frame
    if "engine" not in table.keys:
        return table
    controlled = frame["engine"].isin(OWN_ENGINES)
    if "against" in frame:
        others = frame["against"].astype("string").str.partition("/")[0]
        controlled &= others.isna() | others.isin(OWN_ENGINES)
    if controlled.all():
        return table
    keys = list(table.keys)
    keys.insert(keys.index("engine") + 1, COLUMN)
    said = controlled.map({True: STARTED, False: NOT_CONTROLLED})
    return replace(table, keys=keys, frame=pd.DataFrame(frame).assign(**{COLUMN: said}))
