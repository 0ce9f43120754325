"""From the terms of a hypothesis to cells: rows of one server, each a condition with its weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from ..analysis.request_metrics import POINT, SERVER
from .facts import StudyFacts

SERVER_NAMES = SERVER[1:]
"""Name a server within an experiment."""
CELL = POINT[:-1]
"""Name a condition."""


class NotTestedError(Exception):
    """A hypothesis that the study cannot test; the message says what it lacks."""


class Cell(NamedTuple):
    """A term: conditions of one server, with the sign of the term.

    Attributes:
        server: values of SERVER_NAMES.
        conditions: (dataset, load, budget) of each.
        sign: 1 or -1.
    """

    server: tuple[str, ...]
    conditions: tuple[tuple[str, str, int], ...]
    sign: int


class Selection(NamedTuple):
    """What a row of the results is about.

    Attributes:
        experiment: whose rows are used.
        pair: whose models.
        engine: that serves them.
        candidate: (quantization, setup) of the changed server; None where nothing is changed.
        dataset: the only dataset that is used; None: all.
    """

    experiment: str
    pair: str
    engine: str
    candidate: tuple[str, str] | None = None
    dataset: str | None = None


def resolve(
    terms: Sequence[tuple[Mapping[str, Any], int]], selection: Selection, starts: pd.DataFrame, facts: StudyFacts
) -> list[Cell]:
    """Return the cell of each term.

    Args:
        terms: entries of a hypothesis's `plus` with sign 1, of its `minus` with sign -1.
        selection: of the row.
        starts: `points.Tables.starts` of the experiment, valid rows alone.
        facts: of the study.

    Raises:
        NotTestedError: when the study has no such rows, or a term names an end of something that has only one value.
    """
    return [_cell(term, sign, selection, starts, facts) for term, sign in terms]


def of_server(frame: pd.DataFrame, server: tuple[str, ...]) -> pd.DataFrame:
    """Return the rows of a server, named as in `Cell`."""
    found = pd.Series(True, frame.index)
    for name, value in zip(SERVER_NAMES, server, strict=True):
        found &= frame[name] == value
    return frame[found]


def _cell(term: Mapping[str, Any], sign: int, selection: Selection, starts: pd.DataFrame, facts: StudyFacts) -> Cell:
    model = facts.pairs[selection.pair].get(term["role"])
    if model is None:
        raise NotTestedError(
            f"the config has no {term['role'].upper()} to compare with (pair {selection.pair}: "
            f"{', '.join(facts.pairs[selection.pair].values())} alone)"
        )
    changed = selection.candidate if term["changed"] else None
    quantization, setup = changed or ("bf16", "baseline")
    server = (selection.engine, model, quantization, setup)
    rows = of_server(starts, server)
    if rows.empty:
        raise NotTestedError(f"{selection.experiment} has no valid point of {'/'.join(server)}")
    datasets = _datasets(term, sorted(rows["dataset"].unique()), facts)
    if selection.dataset is not None:
        datasets = [name for name in datasets if name == selection.dataset]
    rows = rows[rows["dataset"].isin(datasets)]
    if rows.empty:
        raise NotTestedError(f"{selection.experiment} does not ask {selection.dataset or term['subject']} there")
    budget = _budget(term, sorted(int(value) for value in rows["budget"].unique()))
    rows = rows[rows["budget"] == budget]
    load = _load(term, rows, facts.loads[selection.experiment])
    rows = rows[rows["load"] == load]
    conditions = rows[CELL].drop_duplicates()
    found = tuple(sorted((str(d), str(name), int(b)) for d, name, b in conditions.itertuples(index=False)))
    return Cell(server, found, sign)


def _datasets(term: Mapping[str, Any], known: Sequence[str], facts: StudyFacts) -> list[str]:
    about = [name for name in known if term["subject"] in ("all", facts.subjects[name].name)]
    if not about:
        raise NotTestedError(f"no dataset is about {term['subject']}")
    if term["level"] == "all":
        return about
    levels = {name: level for name in about if (level := facts.subjects[name].level) is not None}
    if len(set(levels.values())) < 2:
        raise NotTestedError("its datasets are of one difficulty")
    hardest, easiest = max(levels.values()), min(levels.values())
    if term["level"] == "below-hardest":
        return [name for name in about if levels.get(name) != hardest]
    wanted = hardest if term["level"] == "hardest" else easiest
    return [name for name, level in levels.items() if level == wanted]


def _budget(term: Mapping[str, Any], budgets: Sequence[int]) -> int:
    if "budget_part" not in term:
        return budgets[0 if term["budget"] == "smallest" else -1]
    below = [budget for budget in budgets if budget <= term["budget_part"] * budgets[-1]]
    if not below:
        raise NotTestedError(f"no budget is at most {term['budget_part']:g} of the largest")
    return below[-1]


def _load(term: Mapping[str, Any], rows: pd.DataFrame, order: Sequence[str]) -> str:
    levels = rows.groupby("load")["load_level"].first()
    ranked = sorted(levels.index, key=lambda name: (levels[name], order.index(name)))
    return str(ranked[0 if term["load"] == "smallest" else -1])


def check_ends_differ(cells: Sequence[Cell]) -> None:
    """Refuse a hypothesis whose terms are the same rows: a study with one load has no largest and smallest.

    Raises:
        NotTestedError: when two terms of opposite sign are equal.
    """
    for cell in cells:
        if cell._replace(sign=-cell.sign) in cells:
            raise NotTestedError("the study has only one of what it compares (load, budget, dataset or server)")
