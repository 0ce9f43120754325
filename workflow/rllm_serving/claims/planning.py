"""The claims of a study before it runs: those of resources/claims.yaml, and those that its config adds or replaces.

Apart from what evaluates them, so that a change of what only plans jobs makes no verdict stale.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..study.config_errors import ConfigError
from ..study.design import Load
from ..study.study import Study
from ..study.subjects import subject_of
from .definitions import OVER_STARTS, SAID, read_claims
from .facts import StudyFacts


def load_claims(path: Path, study: Study) -> dict[str, dict[str, Any]]:
    """Return all claims by id: those of a file, and those of the study's config, which may replace them.

    Raises:
        ConfigError: one line with the file or key: a mistake of form, a metric without an interval, an experiment of
            the config's own claims that the config does not have.
    """
    own = study.config["claims"]
    for name, claim in own.items():
        unknown = [experiment for experiment in _experiments(claim) if experiment not in study.experiments]
        if unknown:
            raise ConfigError(
                f"claims.{name}.experiments: unknown {', '.join(map(repr, unknown))}; "
                f"allowed: {', '.join(study.experiments)}"
            )
    claims = {**read_claims(path), **own}
    for key, metric in _metrics(claims):
        if metric not in SAID and metric not in OVER_STARTS:
            raise ConfigError(f"{key}: {metric!r} has no interval; allowed: {', '.join((*SAID, *OVER_STARTS))}")
    return claims


def claimed_experiments(claims: Mapping[str, Any], study: Study) -> list[str]:
    """Return the experiments of a study that some claim asks about, in the config's order."""
    named = {experiment for claim in claims.values() for experiment in _experiments(claim)}
    return [name for name in study.experiments if name in named]


def _experiments(claim: Mapping[str, Any]) -> list[str]:
    of_hypotheses = [name for hypothesis in claim["hypotheses"].values() for name in hypothesis.get("experiments", [])]
    return [*claim["experiments"], *of_hypotheses]


def _metrics(claims: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, claim in claims.items():
        for part, hypothesis in claim["hypotheses"].items():
            yield f"claims.{name}.hypotheses.{part}.metric", hypothesis["metric"]


def facts_of(study: Study) -> StudyFacts:
    """Return what the claims of a study select rows by."""
    return StudyFacts(
        pairs=study.pairs,
        engines=study.engines,
        subjects={name: subject_of(spec) for name, spec in study.datasets.items()},
        setups=study.config["setups"],
        methods={name: spec["method"] for name, spec in study.quantizations.items()},
        loads={
            name: [Load(**load).name for load in study.config["experiments"][name]["loads"]]
            for name in study.experiments
        },
    )
