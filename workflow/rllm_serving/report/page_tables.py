"""Tables of the page: cells for reading, what they are sorted by, and which of them are too long to be shown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd

from ..analysis.metrics import REGISTRY
from . import table_forms

MAX_ROWS = 80
"""Longer tables are files with a link."""
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")


def read(path: Path | str) -> table_forms.Table:
    """Return a table from the CSV file that `table_forms.write` wrote."""
    frame = pd.read_csv(path)
    changes = any(f"{name}_ratio" in frame for name in frame)
    told = {f"{name}{end}" for name in frame for end in table_forms.CHANGE} if changes else set()
    metrics = [name for name in frame if name in REGISTRY and name not in told and name != "invalid"]
    return table_forms.Table([name for name in frame if name in table_forms.KEYS], metrics, frame, changes)


def shown(file: Path, link: str) -> dict[str, Any]:
    """Return a table of the study for the page: `link`, number of `rows`, and `head` and `body` unless it is too long.

    Args:
        file: a CSV file as `table_forms.write` writes it.
        link: its address, seen from the page.
    """
    table = read(file)
    found: dict[str, Any] = {"link": link, "rows": len(table.frame), "head": [], "body": []}
    if 0 < len(table.frame) <= MAX_ROWS:
        found |= _content(table_forms.for_reading(table), len(table.keys))
    return found


def plain(frame: pd.DataFrame, link: str, keys: int = 1) -> dict[str, Any]:
    """Return any frame for the page, the first `keys` columns as heads of the rows; missing is a dash."""
    texts = frame.map(
        lambda value: table_forms.DASH if pd.isna(value) else f"{value:g}" if isinstance(value, float) else str(value)
    )
    return {"link": link, "rows": len(frame), **_content(texts, keys)}


def _content(texts: pd.DataFrame, keys: int) -> dict[str, Any]:
    """Return `head` (text, whether a number) and `body`, rows of cells (text, what it is sorted by)."""
    head = [{"text": str(name), "number": index >= keys} for index, name in enumerate(texts)]
    return {"head": head, "body": [[_cell(str(text)) for text in row] for row in texts.to_numpy().tolist()]}


def _cell(text: str) -> dict[str, Any]:
    """A cell is sorted by the number that it starts with, else by its text; see page.js."""
    number = NUMBER.match(text)
    return {"text": text, "sort": number.group() if number else text if text != table_forms.DASH else ""}
