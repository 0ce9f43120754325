"""What claims are made of: their metrics, and how a file of them is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ..analysis.metrics import METRICS
from ..study.config_base import Name, Section
from ..study.config_claims import Claim
from ..study.config_errors import ConfigError, first_error

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
