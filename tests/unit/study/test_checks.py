"""What no single key of a config shows: loads that mean nothing, capacities that saturate nothing."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.studies import REMOVED, STREAM, changed, load
from rllm_serving.study.config_errors import ConfigError


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("capacity", REMOVED), r"experiments\.stream\.capacity: missing, but its loads are a share"),
        (
            ("capacity.experiment", "none"),
            r"capacity\.experiment: unknown 'none'; allowed: budget, full, single, stream",
        ),
        (("capacity.experiment", "single"), r"'single' does not serve tiny-llm on vllm"),
        (("capacity.experiment", "budget"), r"'budget' does not saturate .*load of size 64"),
        (("capacity.dataset", "hard"), r"capacity\.dataset: unknown 'hard'; allowed: easy"),
        (("loads", [{"type": "open", "burstiness": 1}]), r"loads\.0: give either rate \(requests/s\) or load_factor"),
        (("loads", [{"type": "open", "burstiness": 1, "rate": 1, "load_factor": 1}]), r"loads\.0: give either rate"),
        (("loads", [{"type": "open", "rate": 1}]), r"loads\.0: the key 'burstiness' is missing"),
        (("loads", [{"type": "trace", "rate": 1, "trace": "x"}]), r"loads\.0\.trace: unknown 'x'"),
        (("loads", [{"type": "batch", "size": 1, "rate": 1}]), r"loads\.0: the key 'rate' has no meaning beside type"),
    ],
)
def test_a_load_that_means_nothing_is_one_line(change: tuple[str, Any], message: str) -> None:
    key, value = change
    with pytest.raises(ConfigError, match=message):
        load(changed(*STREAM, (f"experiments.stream.{key}", value)))
