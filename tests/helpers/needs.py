"""What a test needs of the machine: where it can be installed, CI installs it, and its lack is a failure there."""

from __future__ import annotations

import os

import pytest

STRICT = "RLLM_SERVING_TEST_ALL"
"""Set to 1 by .ci/run: a test that lacks what can be installed runs, and fails, instead of being skipped."""


def strict() -> bool:
    return os.environ.get(STRICT) == "1"


def needs(fault: str | None) -> pytest.MarkDecorator:
    """A mark that skips a test where there is a fault, except in CI."""
    return pytest.mark.skipif(fault is not None and not strict(), reason=f"not on this machine: {fault}")


def skip_unless_there(fault: str | None) -> None:
    """Skip the rest of a test where there is a fault, or fail it in CI."""
    if fault and strict():
        pytest.fail(fault)
    if fault:
        pytest.skip(f"not on this machine: {fault}")
