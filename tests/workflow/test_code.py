"""A study that asks for code says before it starts whether that can be run, and whether it will be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import run, snakemake
from helpers.studies import COMPILING, TINY, changed, dry_run, load, write
from rllm_serving.study.config_errors import ConfigError


@pytest.fixture
def code(tmp_path: Path) -> dict[str, Any]:
    """A study that asks for code."""
    (tmp_path / "code.jsonl").write_text("{}\n")
    spec = {"source": "path", "format": "humaneval", "prompt": "code", "path": str(tmp_path / "code.jsonl")}
    return changed(("datasets.code", spec))


def test_code_is_run_in_a_sandbox_or_the_dry_run_says_why_not(
    code: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    running = changed(("grading.execute_code", True), base=code)
    with pytest.raises(ConfigError) as caught:
        load(running)
    line = str(caught.value)
    assert line.startswith("grading.execute_code: bubblewrap (bwrap) is not installed; install it")
    assert "\n" not in line and "set it to false" in line
    # Nothing is needed where no code is asked for.
    assert load(changed(("grading.execute_code", True))).runs
    said = dry_run(tmp_path, write(running, tmp_path / "study.yaml"), PATH="/nowhere")
    assert said.splitlines()[-1] == f"Error in the config: {line}"


@pytest.mark.slow
def test_a_dry_run_says_that_code_is_asked_but_not_graded(code: dict[str, Any], tmp_path: Path) -> None:
    ended = run(snakemake(tmp_path, "-n", config=write(code, tmp_path / "study.yaml")), env=COMPILING)
    assert ended.returncode == 0
    (note,) = load(code).notes()
    assert note.startswith("datasets.code: ") and "not graded" in note and "grading.execute_code is off" in note
    assert ended.stdout.count(note) == 1
    assert load(TINY).notes() == []
