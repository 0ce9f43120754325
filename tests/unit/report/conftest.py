"""The made-up studies that tables and figures are made of, each once a session."""

from __future__ import annotations

from functools import cache

import pytest
from helpers.study_fixtures import CASES, Study


@cache
def made(name: str) -> Study:
    """The study of a case, made once for all fixtures."""
    return Study(**CASES[name])


@pytest.fixture(scope="session")
def both() -> Study:
    return made("two-engines")


# Drawing takes most of the time of the unit tests: with one study all figures, with the others as slow tests.
@pytest.fixture(
    scope="session",
    params=[pytest.param(name, marks=[pytest.mark.slow] if name != "two-engines" else []) for name in CASES],
)
def study(request: pytest.FixtureRequest) -> Study:
    return made(request.param)


@pytest.fixture(scope="session")
def plain() -> Study:
    return made("one-engine")
