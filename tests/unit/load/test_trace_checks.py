"""What the dry run says of traces: faults of their heads, too few requests, and what is done to their requests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.studies import changed, load
from helpers.traces import AZURE, servegen
from rllm_serving.load.trace_checks import check_traces
from rllm_serving.load.trace_files import ArrivalError

ROW = "2023-11-16 18:15:{:02d},100,20"


def said(path: Path, source: str = "azure", start_s: float = 0.0, **load_keys: Any) -> list[str]:
    """What is said of a trace at `path`; four questions of `easy` and `facts` are asked of it."""
    loads = [{"type": "trace", "trace": "real", "rate": 1.0, **load_keys}]
    traces = {"real": {"source": source, "path": str(path), "start_s": start_s}}
    return check_traces(load(changed(("traces", traces), ("experiments.budget.loads", loads))))


def azure(folder: Path, *rows: str) -> Path:
    file = folder / "azure.csv"
    file.write_text("\n".join([AZURE, *rows]))
    return file


def test_nothing_is_said_of_good_traces(tmp_path: Path) -> None:
    assert said(azure(tmp_path, *map(ROW.format, range(4)))) == []
    assert said(servegen(tmp_path / "model"), "servegen", replay_output_lengths=True) == []


def test_a_fault_is_told_with_the_key(tmp_path: Path) -> None:
    with pytest.raises(ArrivalError, match=r"^traces\.real\.path: .*azure\.csv, row 2: TIMESTAMP is "):
        said(azure(tmp_path, "now,1,2"))
    with pytest.raises(ArrivalError, match=r"^traces\.real\.path: .*: is a folder; expected a file"):
        said(tmp_path)
    folder = servegen(tmp_path / "model")
    (folder / "chunk-1-dataset.json").write_text('{"0": {"input_tokens": "{x: 1}", "output_tokens": "{1: 1}"}}')
    with pytest.raises(ArrivalError, match=r"^traces\.real\.path: .*chunk-1-dataset\.json, window 0, input_tokens"):
        said(folder, "servegen")


def test_too_few_requests_are_told_before_anything_runs(tmp_path: Path) -> None:
    file = azure(tmp_path, *map(ROW.format, range(6)))
    with pytest.raises(ArrivalError, match="3 requests from second 3 on, 4 are asked"):
        said(file, start_s=3.0)
    with pytest.raises(ArrivalError, match="0 requests from second 5000 on, 4 are asked"):
        said(servegen(tmp_path / "model"), "servegen", start_s=5000.0)


def test_lengths_must_be_told_to_be_replayed(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    file.write_text('{"timestamp": 1}\n' * 4)
    assert said(file, "mooncake") == []
    with pytest.raises(ArrivalError, match="without its output tokens; set replay_output_lengths: false"):
        said(file, "mooncake", replay_output_lengths=True)


def test_rows_that_are_sorted_and_requests_beyond_the_context_are_said(tmp_path: Path) -> None:
    rows = [ROW.format(second) for second in (5, 4, 6)]
    file = azure(tmp_path, *rows, "2023-11-16 18:15:50,500,13")
    unsorted, longer = said(file)
    assert unsorted.startswith(
        f"traces.real.path: {file}: 1 rows have a time before that of the row above: all are sorted"
    )
    assert longer.startswith(f"traces.real.path: {file}: 1 requests are longer than the context of 512 tokens")
