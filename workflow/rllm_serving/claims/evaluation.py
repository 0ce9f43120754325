"""All hypotheses of a study: a row each, for every pair, engine, candidate and dataset that it is asked of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from ..analysis.intervals import Estimate, from_log
from ..analysis.points import LINEAR
from ..schemas import OWN_ENGINES
from .cells import CELL, SERVER_NAMES, Cell, NotTestedError, Selection, check_ends_differ, resolve
from .contrasts import Contrast, of_questions, of_starts
from .decisions import NOT_TESTED, UNDECIDED, adjusted, examine, needed, threshold, verdict
from .definitions import SAID
from .facts import StudyFacts

COLUMNS = ["claim", "title", "hypothesis", "says", "primary", "pair", "engine", "experiment", "dataset", "role"]
COLUMNS += ["candidate", "metric", "scale", "effect", "effect_low", "effect_high", "error", "df", "units", "n"]
COLUMNS += ["direction", "margin", "p", "p_adjusted", "verdict", "needed", "reason", "invalid_points", "derived"]
ALL = "all"
"""Stands for the datasets of a row that is not about one alone."""
OTHER_ROLE = {"rllm": "llm", "llm": "rllm"}


@dataclass(frozen=True)
class ExperimentRows:
    """What an experiment measured.

    Attributes:
        points: `points.Tables.points`.
        starts: `points.Tables.starts`.
        questions: `points.Tables.questions`.
    """

    points: pd.DataFrame
    starts: pd.DataFrame
    questions: pd.DataFrame

    @property
    def invalid_points(self) -> int:
        """Number of measured points beyond a validity gate; derived ones are those again."""
        return int((self.points["invalid"].notna() & self.points["derived_from"].isna()).sum())

    @cached_property
    def valid_starts(self) -> pd.DataFrame:
        """Rows of `starts` with a point that is not beyond a validity gate."""
        return self.starts[self.starts["invalid"].isna()]


def evaluate(
    claims: Mapping[str, Mapping[str, Any]], measured: Mapping[str, ExperimentRows], facts: StudyFacts
) -> pd.DataFrame:
    """Return a row a hypothesis and what it is asked of, with COLUMNS.

    role: rllm, llm, or "difference" for the change of the RLLM against that of the LLM; "" where the hypothesis names
    roles itself. candidate: quantization or setup, "" where nothing is changed. scale: "ratio" or "difference"; effect
    with its 95 % interval (not adjusted) on that scale; error and df on the scale of the test (the log of a ratio).
    units: "questions" or "starts" (of a server that already runs "sessions"), n of them. margin: as in the claim. p:
    two-sided, of the effect's lying on the margin; p_adjusted, verdict: see `decisions`. needed: units that would
    decide it. reason: why a hypothesis is not tested, or undecided without a number. invalid_points: that were left out
    of the rows which it is about. derived: which of its budgets were not measured, "256 from 1024" (tokens), "" where
    all were; only of what a model says, for a hypothesis about times is asked of measured budgets alone.

    Args:
        claims: id -> claim, as `planning.load_claims` returns them.
        measured: experiment -> its rows.
        facts: of the study.
    """
    rows = []
    for name, claim in claims.items():
        for part, hypothesis in claim["hypotheses"].items():
            keys = {"claim": name, "title": claim["title"], "hypothesis": part, "says": hypothesis["says"]}
            asked = hypothesis.get("experiments", claim["experiments"])
            rows += [keys | row for row in _rows(hypothesis, asked, measured, facts)]
    return _judged(pd.DataFrame(rows, columns=[*COLUMNS, "would_hold", "distance"]))


def _rows(
    hypothesis: Mapping[str, Any], asked: list[str], measured: Mapping[str, ExperimentRows], facts: StudyFacts
) -> Iterator[dict[str, Any]]:
    for pair, engine in product(facts.pairs, facts.engines):
        found = [name for name in asked if name in measured and _serves(measured[name], engine, facts.pairs[pair])]
        selections = _selections(hypothesis, [Selection(name, pair, engine) for name in found], measured, facts)
        for selection in selections:
            yield from _of_server(hypothesis, selection, measured[selection.experiment], facts)
        if not selections:
            of_study = "was not measured" if not set(asked) & set(measured) else f"has no such server on {engine}"
            reason = f"experiment {' or '.join(asked)} {of_study}"
            yield _not_tested(hypothesis, {"pair": pair, "engine": engine, "dataset": ALL}, reason)


def _serves(rows: ExperimentRows, engine: str, models: Mapping[str, str]) -> bool:
    starts = rows.valid_starts
    return bool(((starts["engine"] == engine) & starts["model"].isin(list(models.values()))).any())


def _selections(
    hypothesis: Mapping[str, Any],
    experiments: list[Selection],
    measured: Mapping[str, ExperimentRows],
    facts: StudyFacts,
) -> list[Selection]:
    """The first of the experiments; of a hypothesis with candidates each of these, in the first that served it."""
    if "candidates" not in hypothesis:
        return experiments[:1]
    wanted = facts.candidates(hypothesis["candidates"])
    chosen: dict[tuple[str, str], Selection] = {}
    for selection in experiments:
        starts = measured[selection.experiment].valid_starts
        models = list(facts.pairs[selection.pair].values())
        served = starts[(starts["engine"] == selection.engine) & starts["model"].isin(models)]
        known = set(zip(served["quantization"], served["setup"], strict=True))
        for candidate in wanted:
            if candidate in known:
                chosen.setdefault(candidate, selection._replace(candidate=candidate))
    return list(chosen.values())


def _of_server(
    hypothesis: Mapping[str, Any], selection: Selection, rows: ExperimentRows, facts: StudyFacts
) -> Iterator[dict[str, Any]]:
    yield _row(hypothesis, selection, "", hypothesis["primary"], rows, facts)
    for dataset in sorted(rows.starts["dataset"].unique()) if hypothesis["each_dataset"] else []:
        row = _row(hypothesis, selection._replace(dataset=dataset), "", False, rows, facts)
        if row.get("verdict") != NOT_TESTED:
            yield row
    if hypothesis["control"]:
        yield _row(hypothesis, selection, "llm", False, rows, facts)
        yield _row(hypothesis, selection, "difference", False, rows, facts)


def _terms(hypothesis: Mapping[str, Any], role: str) -> list[tuple[Mapping[str, Any], int]]:
    """Terms with their signs; role: "" as they are, "llm" with roles exchanged, "difference" the one - the other."""
    terms: list[tuple[Mapping[str, Any], int]] = [(term, 1) for term in hypothesis["plus"]] + [
        (term, -1) for term in hypothesis["minus"]
    ]
    if not role:
        return terms
    others: list[tuple[Mapping[str, Any], int]] = [
        ({**term, "role": OTHER_ROLE[term["role"]]}, sign) for term, sign in terms
    ]
    return others if role == "llm" else terms + [(term, -sign) for term, sign in others]


def _row(
    hypothesis: Mapping[str, Any],
    selection: Selection,
    role: str,
    primary: bool,
    rows: ExperimentRows,
    facts: StudyFacts,
) -> dict[str, Any]:
    keys = {**selection._asdict(), "dataset": selection.dataset or ALL}
    keys |= {"candidate": "" if selection.candidate is None else _candidate_name(selection.candidate)}
    keys |= {"role": role or ("rllm" if hypothesis["control"] else ""), "primary": primary}
    is_said = hypothesis["metric"] in SAID
    # What was derived has no times: the smallest budget of a hypothesis about these is the smallest measured one.
    asked, starts = (
        found if is_said else found[found["derived_from"].isna()] for found in (rows.starts, rows.valid_starts)
    )
    try:
        cells = resolve(_terms(hypothesis, role), selection, asked, starts, facts)
        check_ends_differ(cells)
        found = _contrast(hypothesis["metric"], cells, rows)
    except NotTestedError as error:
        return _not_tested(hypothesis, keys, str(error))
    margin = threshold(hypothesis["margin"], found.is_ratio)
    test = examine(found.effect, hypothesis["direction"], margin)
    row = {**_described(hypothesis), **keys, **_effect(found), "invalid_points": _invalid(cells, rows.points)}
    times = "starts" if selection.engine in OWN_ENGINES else "sessions"
    row |= {"units": "questions" if is_said else times, "n": found.units, "derived": _derived(cells, starts)}
    if test is None:
        return {**row, "verdict": UNDECIDED, "reason": _too_few(row)}
    return {**row, "p": test.p, "would_hold": test.would_hold, "distance": test.distance}


def _candidate_name(candidate: tuple[str, str]) -> str:
    quantization, setup = candidate
    return setup if setup != "baseline" else quantization


def _contrast(metric: str, cells: list[Cell], rows: ExperimentRows) -> Contrast:
    if metric in SAID:
        return of_questions(cells, metric, rows.questions)
    return of_starts(cells, metric, metric in LINEAR, rows.valid_starts)


def _effect(found: Contrast) -> dict[str, Any]:
    effect: Estimate = found.effect
    interval = from_log(effect) if found.is_ratio else effect.interval()
    names = ("effect", "effect_low", "effect_high")
    row = dict(zip(names, interval, strict=True))
    return {**row, "error": effect.error, "df": effect.df, "scale": "ratio" if found.is_ratio else "difference"}


def _described(hypothesis: Mapping[str, Any]) -> dict[str, Any]:
    return {name: hypothesis[name] for name in ("metric", "direction", "margin", "primary")}


def _not_tested(hypothesis: Mapping[str, Any], keys: Mapping[str, Any], reason: str) -> dict[str, Any]:
    return {**_described(hypothesis), **keys, "verdict": NOT_TESTED, "reason": reason}


def _too_few(row: Mapping[str, Any]) -> str:
    units = row["units"]
    if units == "questions" or row["n"] < 2:
        return f"too few {units} for an interval"
    return f"the {units} do not differ, or are too few"


def _invalid(cells: list[Cell], points: pd.DataFrame) -> int:
    """Number of points beyond a validity gate among those of the cells."""
    invalid = points[points["invalid"].notna()]
    asked = {(*cell.server, *condition) for cell in cells for condition in cell.conditions}
    return sum(tuple(row) in asked for row in invalid[[*SERVER_NAMES, *CELL]].itertuples(index=False))


def _derived(cells: list[Cell], starts: pd.DataFrame) -> str:
    """Which budgets of the cells were derived, and from which."""
    derived = starts[starts["derived_from"].notna()].drop_duplicates([*SERVER_NAMES, *CELL])
    sources = {
        tuple(key): f"{key[-1]} from {source:.0f}"
        for *key, source in derived[[*SERVER_NAMES, *CELL, "derived_from"]].itertuples(index=False)
    }
    found = [sources.get((*cell.server, *condition)) for cell in cells for condition in cell.conditions]
    return ", ".join(dict.fromkeys(filter(None, found)))


def _judged(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with COLUMNS, from those of `_rows`: p values adjusted, and verdicts where something was tested."""
    primary = rows["primary"].astype(bool).to_numpy()
    p = rows["p"].to_numpy(dtype=float)
    rows = rows.assign(p_adjusted=adjusted(p, primary))
    family = {True: int(np.isfinite(p[primary]).sum()), False: 1}
    found = [_verdict(row, family[bool(row["primary"])]) for row in rows.to_dict("records")]
    for place, name in enumerate(("verdict", "needed", "reason")):
        rows[name] = pd.Series([values[place] for values in found], rows.index, object)
    counts = dict.fromkeys(("needed", "n", "invalid_points"), "Int64")
    return rows[COLUMNS].astype({**counts, "primary": bool})


def _verdict(row: Mapping[Any, Any], family: int) -> tuple[str, int | None, str | None]:
    """Return verdict, needed and reason of a row; family: hypotheses that its p is adjusted over."""
    if not np.isfinite(row["p"]):
        return row["verdict"], None, row["reason"]
    said = verdict(row["p_adjusted"], bool(row["would_hold"]))
    if said != UNDECIDED:
        return said, None, None
    units = needed(Estimate(np.nan, row["error"], row["df"]), row["distance"], int(row["n"]), family)
    return said, units, None if units else "the effect lies at the margin: no number of units decides it"
