"""MEASUREMENT is raised whenever the code changes that decides what a measurement is.

After a change of that code, raise MEASUREMENT in study/design.py (not where names alone have changed: whatever a run
has measured must mean the same as before), then write the record anew:

    RLLM_SERVING_NEW_RECORD=1 uv run pytest tests/unit/measurement/test_version.py
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from rllm_serving import code_digest
from rllm_serving.study.design import MEASUREMENT

RECORD = Path(__file__).parents[2] / "data" / "measurement.json"
DECIDING = (
    "datasets/prompts.py",
    "load/chunks.py",
    "load/client.py",
    "load/endpoint_stream.py",
    "load/patterns.py",
    "load/requests.py",
    "load/sse.py",
    "load/stream.py",
    "load/token_counter.py",
    "measurement/engine_metrics.py",
    "measurement/rows.py",
    "measurement/special_tokens.py",
    "measurement/telemetry.py",
    "serving/endpoints.py",
)
"""Modules that decide what is sent, when, what is recorded of it, and what the columns mean."""


def test_the_version_of_measurements_is_raised_with_the_code_that_decides_what_they_are() -> None:
    library = Path(code_digest.__file__).parent
    modules = {name: code_digest.behaviour(library / name)[:16] for name in DECIDING}
    now = {"version": MEASUREMENT, "modules": modules}
    if os.environ.get("RLLM_SERVING_NEW_RECORD"):
        RECORD.write_text(json.dumps(now, indent=1) + "\n")
    recorded = json.loads(RECORD.read_text())
    changed = [name for name in DECIDING if recorded["modules"].get(name) != modules[name]]
    assert recorded == now, f"changed: {', '.join(changed) or 'the version'}. {__doc__}"
