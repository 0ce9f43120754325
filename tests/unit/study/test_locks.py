"""Snakemake's lock: left by a call that was killed, or in use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from rllm_serving.study.locks import LOCKS, lock_note

CALL = ["--cores", "all"]


@pytest.fixture
def locked(tmp_path: Path) -> Path:
    (tmp_path / LOCKS).mkdir(parents=True)
    (tmp_path / LOCKS / "0.output.lock").touch()
    return tmp_path


def test_a_lock_that_was_left_says_what_to_do(locked: Path) -> None:
    note = lock_note(locked, CALL)
    assert note is not None and "`snakemake --unlock`" in note and "killed" in note and "\n" not in note


def test_a_lock_in_use_names_the_call_that_works_there(locked: Path) -> None:
    program = locked / "snakemake"
    program.write_text("print(flush=True); input()")
    with subprocess.Popen([sys.executable, str(program)], cwd=locked, stdin=-1, stdout=-1) as process:
        assert process.stdout is not None
        process.stdout.readline()
        note = lock_note(locked, CALL)
        process.communicate()
    assert note is not None and f"(process {process.pid})" in note and "--unlock" not in note


@pytest.mark.parametrize("word", ["--unlock", "-n", "-np", "--dry-run", "--nolock", "--mode=subprocess"])
def test_a_call_that_takes_no_lock_hears_nothing(locked: Path, word: str) -> None:
    assert lock_note(locked, [*CALL, word]) is None


def test_without_a_lock_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert lock_note(tmp_path, CALL) is None
    (tmp_path / LOCKS).mkdir(parents=True)
    assert lock_note(tmp_path, CALL) is None
