"""What runs recorded about themselves, a row a run."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
from helpers.page_study import run_record
from rllm_serving.report import page_facts, run_records


def test_a_run_is_a_row_with_its_versions_times_and_hashes(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps(run_record(engine="sglang")))
    row = run_records.collect([tmp_path / "run.json"]).iloc[0]
    assert row["engine"] == "sglang" and row["seed"] == 7 and row["engine_version"] == "0.32.0"
    assert (row["points"], row["invalid_points"]) == (2, 1)
    assert (row["startup_s"], row["measured_s"]) == (10.0, 120.0)
    assert row["started_at"] == "2026-01-01T10:00:00.000+00:00"
    assert row["ended_at"] == "2026-01-01T10:06:00+00:00"
    assert row["hash: code"] == "b95ca09c76f3" and pd.isna(row["gpus"])


def test_gpus_are_counted_by_name_and_what_is_missing_is_null(tmp_path: Path) -> None:
    record = run_record()
    record["sessions"][0]["hardware"]["gpus"] = [{"name": "H100"}, {"name": "H100"}]
    record["points"], record["environment"] = [], {}
    (tmp_path / "run.json").write_text(json.dumps(record))
    row = run_records.collect([tmp_path / "run.json"]).iloc[0]
    assert row["gpus"] == "2 x H100"
    assert pd.isna(row["missing_metrics"])
    assert pd.isna(row["started_at"]) and pd.isna(row["engine_version"])


def test_what_an_engine_did_not_measure_is_told_with_its_reason(tmp_path: Path) -> None:
    record = run_record() | {"missing_metrics": {"waiting": "the engine has no metric e:waiting"}}
    (tmp_path / "run.json").write_text(json.dumps(record))
    runs = run_records.collect([tmp_path / "run.json"] * 2)
    [fact] = page_facts.missing_metrics(runs)
    assert fact["missing_metrics"] == "waiting: the engine has no metric e:waiting" and fact["runs"] == 2
