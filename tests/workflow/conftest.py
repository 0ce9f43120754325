"""A checkout of the workflow with nothing done, and one with everything done, for all tests of what is planned."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers.checkouts import finish, new_checkout


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout whose study is TINY, with nothing done yet."""
    return new_checkout(tmp_path_factory.mktemp("fresh") / "checkout")


@pytest.fixture(scope="session")
def done(fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout where every output is there and Snakemake has recorded how it came about."""
    checkout = tmp_path_factory.mktemp("done") / "checkout"
    shutil.copytree(fresh, checkout, symlinks=True)
    return finish(checkout)
