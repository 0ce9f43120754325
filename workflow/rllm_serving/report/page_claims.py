"""The claims of the page: verdicts by pair and engine, each with the hypotheses that are its evidence."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..claims.summary import derived_text, effect_text, margin_text
from .table_forms import DASH

MARKS = {"holds": "✓", "does not hold": "✗", "undecided": "?", "not tested": DASH}
"""Verdict -> sign, so that no verdict is told by its colour alone."""


def read(files: Sequence[Path]) -> dict[str, Any] | None:
    """Return the claims for the page, or None where the study has none.

    Adds to each verdict its `id` on the page, its `mark` and `rows`: its hypotheses with `effect` and `needed` as text.

    Args:
        files: results/claims.json, or nothing.
    """
    if not files:
        return None
    found: dict[str, Any] = json.loads(files[0].read_text(encoding="utf-8"))
    for claim in found.get("claims", []):
        for verdict in claim.get("verdicts", []):
            verdict["id"] = "-".join(str(part) for part in (claim["id"], verdict["pair"], verdict["engine"]))
            verdict["mark"] = MARKS.get(verdict["verdict"], "?")
            verdict["rows"] = [_hypothesis(row) for row in claim.get("hypotheses", []) if _belongs(row, verdict)]
    found["columns"] = list(
        dict.fromkeys(
            (verdict["pair"], verdict["engine"]) for claim in found["claims"] for verdict in claim["verdicts"]
        )
    )
    return found


def _belongs(row: Mapping[str, Any], verdict: Mapping[str, Any]) -> bool:
    """Whether a hypothesis is about a verdict's pair and engine; one that names none is about all."""
    return all(row.get(name) in (None, verdict[name]) for name in ("pair", "engine"))


def _hypothesis(row: Mapping[str, Any]) -> dict[str, Any]:
    where = [*(row.get(name) for name in ("experiment", "dataset", "role", "candidate")), derived_text(row)]
    return {
        **row,
        "name": f"{row['hypothesis']} (primary)" if row.get("primary") else row["hypothesis"],
        "effect_text": effect_text(row) or DASH,
        "where": ", ".join(str(part) for part in where if part) or DASH,
        "margin_text": margin_text(row) or DASH,
        "p_text": _number(row.get("p_adjusted")),
        "n_text": f"{row['n']:g} {row.get('units') or ''}".strip() if row.get("n") is not None else DASH,
        "needed_text": _number(row.get("needed")),
    }


def _number(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, int | float) else DASH if value is None else str(value)
