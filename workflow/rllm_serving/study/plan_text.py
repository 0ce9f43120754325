"""What a study will take, as two tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

from .estimate import HOURS, total


def text(work: Sequence[dict[str, Any]], downloads: Sequence[dict[str, Any]]) -> str:
    """The rows of `Plan.work` and `Plan.downloads` as two tables for people.

    Sums are of what a plain call does; optional experiments have a sum of their own. Hours have one digit, sizes are
    in gigabytes, "?" stands where something is not known.
    """
    head = ("work", "jobs", "points", "requests", "GPUs", "hours", "at most", "GPU-hours", "at most")
    rows = []
    for row in work:
        counts = [_shown(row[name]) for name in ("jobs", "points", "requests", "gpus")]
        rows.append([_label(row["work"], row), *counts, *(_shown(row[name], 1) for name in HOURS)])
    for label, chosen in _sums(work):
        counts = [_shown(total([row[name] for row in chosen])) for name in ("jobs", "points", "requests")]
        rows.append([label, *counts, "", *(_shown(total([row[name] for row in chosen]), 1) for name in HOURS)])
    things = [[_label(row["what"], row), row["kind"], _gigabytes([row])] for row in downloads]
    for label, chosen in _sums(downloads):
        fetched = _gigabytes([row for row in chosen if row["kind"] == "download"])
        things.append([label, f"{fetched} of it downloaded", _gigabytes(chosen)])
    tables = (rows, head, ("left", *["right"] * 8)), (things, ("what", "how it comes", "GB"), ("left", "left", "right"))
    return "\n\n".join(
        tabulate(body, headers, "simple", colalign=align, disable_numparse=True) for body, headers, align in tables
    )


def _label(name: str, row: dict[str, Any]) -> str:
    return f"{name} (optional)" if row["optional"] else name


def _sums(rows: Sequence[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Label and rows of each sum: what a plain call does and, where there is something, what is optional."""
    groups = [("all", [row for row in rows if not row["optional"]])]
    groups += [("optional, on top", [row for row in rows if row["optional"]])]
    return [(label, chosen) for label, chosen in groups if chosen]


def _shown(value: float | None, digits: int = 0) -> str:
    return "?" if value is None else f"{value:,.{digits}f}"


def _gigabytes(rows: Sequence[dict[str, Any]]) -> str:
    size = total([row["bytes"] for row in rows])
    return _shown(None if size is None else size / 1e9, 1)
