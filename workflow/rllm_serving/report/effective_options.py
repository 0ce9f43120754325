"""Options that servers were asked for beside those that they ran with, a row a server and option."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ..claims.summary import plain_rows
from ..schemas import SERVER_KEYS

COLUMNS = [*SERVER_KEYS, "option", "asked", "effective", "baseline", "differs", "compared", "side_effect"]
BASELINE = {"quantization": "bf16", "setup": "baseline"}
BETWEEN = " / "
"""Between the values that an option had in several starts of a server."""


def collect(files: Iterable[Path | str]) -> pd.DataFrame:
    """Return a row a server and option.

    Columns: experiment, engine, model, quantization, setup; `option`; `asked` (missing: left to the engine);
    `effective` (missing: the engine does not tell; several values of several starts, " / " between them);
    `baseline`, what is effective in the server of the same experiment, engine and model that nothing was changed of;
    `differs`: whether it ran otherwise than asked in any start; `compared`: whether that made its points invalid;
    `side_effect`: whether it is otherwise than at the baseline though nobody asked for that. Values are JSON.

    Args:
        files: each run's run.json.
    """
    servers: dict[tuple[str, ...], dict[str, dict[str, Any]]] = {}
    for file in files:
        record = json.loads(Path(file).read_text(encoding="utf-8"))
        options = servers.setdefault(tuple(record["server"].values()), {})
        for session in record["sessions"]:
            if "asked" in session:  # not in runs of earlier versions
                _add(options, session)
    rows = [
        dict(zip(SERVER_KEYS, server, strict=True)) | _beside(row, servers.get(_baseline(server), {}).get(name))
        for server, options in servers.items()
        for name, row in options.items()
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _add(options: dict[str, dict[str, Any]], session: Mapping[str, Any]) -> None:
    """Add what a start of a server tells to the server's options."""
    for name, asked in session["asked"].items():
        row = options.setdefault(name, {"option": name, "asked": None, "told": [], "differs": False, "compared": False})
        row["asked"] = _text(asked)
        told = _text(session["effective"].get(name))
        if told is not None and told not in row["told"]:
            row["told"].append(told)
    for difference in session["differences"]:
        row = options[difference["option"]]
        row["differs"], row["compared"] = True, row["compared"] or difference["compared"]


def _text(value: Any) -> str | None:
    return None if value is None else value if isinstance(value, str) else json.dumps(value)


def _baseline(server: tuple[str, ...]) -> tuple[str, ...]:
    return tuple({**dict(zip(SERVER_KEYS, server, strict=True)), **BASELINE}.values())


def _beside(row: Mapping[str, Any], baseline: Mapping[str, Any] | None) -> dict[str, Any]:
    """The row of an option beside the same option of the baseline."""
    there = [] if baseline is None else baseline["told"]
    same_asked = baseline is not None and baseline["asked"] == row["asked"]
    return {
        **{name: row[name] for name in ("option", "asked", "differs", "compared")},
        "effective": BETWEEN.join(row["told"]) or None,
        "baseline": BETWEEN.join(there) or None,
        # Values that differ from start to start anyway, as a pool that takes what is free, are none.
        "side_effect": bool(same_asked and there and row["told"] and not set(there) & set(row["told"])),
    }


def notable(options: pd.DataFrame) -> list[dict[str, Any]]:
    """Return what readers must know, for the page: options that ran otherwise than asked or that a setup brought along.

    Args:
        options: of `collect`.

    Returns:
        A row each, without the experiment and the model: engine, quantization, setup, option, asked, effective,
        baseline, what it `means`, and the number of `servers`.
    """
    shown = options[options["differs"] | options["side_effect"]].copy()
    meanings = [
        "otherwise than asked; its points are invalid"
        if row.compared
        else "otherwise than asked; compares nothing"
        if row.differs
        else "comes with the setup or the weights"
        for row in shown.itertuples()
    ]
    keys = ["engine", "quantization", "setup", "option", "asked", "effective", "baseline", "means"]
    counts = shown.assign(means=meanings).groupby(keys, dropna=False, sort=False).size().reset_index(name="servers")
    return plain_rows(counts)
