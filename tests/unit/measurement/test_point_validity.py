"""Why a point does not count: its numbers, and the options of its server."""

from __future__ import annotations

from typing import Any

from helpers.run_harness import RUN
from rllm_serving.measurement.point_validity import invalid, served_otherwise

SEED = {"option": "seed", "asked": 7, "effective": 8, "compared": False}
CACHE = {"option": "prefix_cache", "asked": True, "effective": False, "compared": True}
POLICY = {"option": "scheduling", "asked": "longest-prefix", "effective": "fcfs", "compared": True}
GATES = {**RUN.measurement["gates"], "steal_rate": 0.02}
MEASUREMENT = {**RUN.measurement, "gates": GATES}


def record(steal: float, *differences: dict[str, Any]) -> dict[str, Any]:
    return {"validity": {"steal_rate": steal}, "session": {"differences": list(differences)}}


def test_only_options_that_are_compared_are_a_reason() -> None:
    assert served_otherwise({"differences": []}) is None and served_otherwise({"differences": [SEED]}) is None
    reason = 'served otherwise than asked: prefix_cache asked true, effective false, scheduling asked "longest-prefix"'
    assert served_otherwise({"differences": [CACHE, SEED, POLICY]}) == f'{reason}, effective "fcfs"'


def test_a_point_may_be_invalid_for_its_numbers_for_its_server_or_for_both() -> None:
    otherwise = "served otherwise than asked: prefix_cache asked true, effective false"
    assert invalid(record(0.0, SEED), MEASUREMENT) is None
    assert invalid(record(0.1), MEASUREMENT) == "steal_rate 10 %, allowed 2 %"
    assert invalid(record(0.0, CACHE), MEASUREMENT) == otherwise
    assert invalid(record(0.1, CACHE), MEASUREMENT) == f"{otherwise}; steal_rate 10 %, allowed 2 %"
