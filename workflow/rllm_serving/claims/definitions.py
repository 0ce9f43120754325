"""The claims of a study: those of resources/claims.yaml, and those that its config adds or replaces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ..analysis.metrics import METRICS
from ..study.config_base import Name, Section
from ..study.config_claims import Claim
from ..study.config_errors import ConfigError, first_error
from ..study.study import Study

RATES = ("accuracy", "answered_rate", "truncated_rate", "failed_rate")
LENGTHS = ("output_tokens_mean", "reasoning_tokens_mean", "answer_tokens_mean")
OVER_STARTS = tuple(name for name, metric in METRICS.items() if metric.units == "starts")
"""Metrics of times, rates and gauges: starts are their units."""
SAID = (*RATES, *LENGTHS)
"""Metrics of what a model says: questions are their units."""


class _File(Section):
    """What a file of claims holds, under the name that the config has for it."""

    claims: dict[Name, Claim]


def read_claims(path: Path) -> dict[str, dict[str, Any]]:
    """Return the claims of a file by id, with their defaults filled in.

    Raises:
        ConfigError: one line with the file and key, for a mistake of form.
    """
    try:
        found: dict[str, dict[str, Any]] = _File.model_validate(
            {"claims": yaml.safe_load(path.read_text())}
        ).model_dump()
        return found["claims"]
    except ValidationError as error:
        raise ConfigError(f"{path.name}: {first_error(error, _File)}") from None


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
