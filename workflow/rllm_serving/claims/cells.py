"""From the terms of a hypothesis to cells: rows of one server, each a condition with its weight."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
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
    terms: Sequence[tuple[Mapping[str, Any], int]],
    selection: Selection,
    asked: pd.DataFrame,
    valid: pd.DataFrame,
    facts: StudyFacts,
) -> list[Cell]:
    """Return the cell of each term.

    What is hardest, largest or smallest is so among all that was asked. Terms about the same datasets are compared on
    those of them that all have a valid point of: a server that lacks the hard one would look better for it.

    Args:
        terms: entries of a hypothesis's `plus` with sign 1, of its `minus` with sign -1.
        selection: of the row.
        asked: `points.Tables.starts` of the experiment.
        valid: its valid rows.
        facts: of the study.

    Raises:
        NotTestedError: when the study has no such rows, or a term names an end of something that has only one value.
    """
    cells = [_cell(term, sign, selection, asked, facts) for term, sign in terms]
    known = set(valid[[*SERVER_NAMES, *CELL]].itertuples(index=False, name=None))
    about = [(term["subject"], term["level"]) for term, _ in terms]
    common = {
        key: set.intersection(
            *(_datasets_of(cell, known) for cell, own in zip(cells, about, strict=True) if own == key)
        )
        for key in about
    }
    found = [
        cell._replace(conditions=tuple(condition for condition in cell.conditions if condition[0] in common[key]))
        for cell, key in zip(cells, about, strict=True)
    ]
    for cell, kept in zip(cells, found, strict=True):
        if not _datasets_of(cell, known):
            raise NotTestedError(f"{selection.experiment} has no valid point of {'/'.join(cell.server)}")
        if not kept.conditions:
            raise NotTestedError(f"{selection.experiment} has no dataset with valid points of all that is compared")
    return found


def _datasets_of(cell: Cell, known: Collection[tuple[Any, ...]]) -> set[str]:
    return {condition[0] for condition in cell.conditions if (*cell.server, *condition) in known}


def of_server(frame: pd.DataFrame, server: tuple[str, ...]) -> pd.DataFrame:
    """Return the rows of a server, named as in `Cell`."""
    found = pd.Series(True, frame.index)
    for name, value in zip(SERVER_NAMES, server, strict=True):
        found &= frame[name] == value
    return frame[found]


def _cell(term: Mapping[str, Any], sign: int, selection: Selection, asked: pd.DataFrame, facts: StudyFacts) -> Cell:
    model = facts.pairs[selection.pair].get(term["role"])
    if model is None:
        raise NotTestedError(
            f"the config has no {term['role'].upper()} to compare with (pair {selection.pair}: "
            f"{', '.join(facts.pairs[selection.pair].values())} alone)"
        )
    changed = selection.candidate if term["changed"] else None
    quantization, setup = changed or ("bf16", "baseline")
    server = (selection.engine, model, quantization, setup)
    rows = of_server(asked, server)
    if rows.empty:
        raise NotTestedError(f"{selection.experiment} has no point of {'/'.join(server)}")
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
