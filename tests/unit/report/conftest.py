"""The made-up studies that tables and figures are made of, each once a session."""

from __future__ import annotations

import pytest
from helpers.study_fixtures import CASES, Study


@pytest.fixture(scope="session")
def both() -> Study:
    return Study(**CASES["two-engines"])


# Drawing takes most of the time of the unit tests: with one study all figures, with the others as slow tests.
@pytest.fixture(
    scope="session",
    params=[pytest.param(name, marks=[pytest.mark.slow] if name != "two-engines" else []) for name in CASES],
)
def study(request: pytest.FixtureRequest) -> Study:
    return Study(**CASES[request.param])


@pytest.fixture(scope="session")
def plain() -> Study:
    return Study(**CASES["one-engine"])
