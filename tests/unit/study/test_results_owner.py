"""A results folder keeps one study, by its name."""

from __future__ import annotations

from pathlib import Path

import pytest
from rllm_serving.study.config_errors import ConfigError
from rllm_serving.study.results_owner import MARKER, check_results, mark_results


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def everything() -> list[str]:
    return []


def test_a_folder_is_the_first_studys_and_stays_so() -> None:
    check_results("a", everything)
    mark_results("a")
    check_results("a", everything)
    with pytest.raises(ConfigError) as caught:
        check_results("b", everything)
    line = str(caught.value)
    assert line.startswith("study: 'b' is asked for, results/ holds the study 'a'") and "\n" not in line
    assert all(way in line for way in ("--directory FOLDER", "move results/ away", str(MARKER)))


@pytest.mark.parametrize("targets", [["plan"], ["prepare", "resources/datasets/easy.parquet"]])
def test_what_writes_no_results_may_be_asked_of_any_study(targets: list[str]) -> None:
    mark_results("a")
    check_results("b", lambda: targets)
    with pytest.raises(ConfigError):
        check_results("b", lambda: [*targets, "results/report.html"])


def test_a_study_renamed_on_purpose_and_results_moved_away_go_on() -> None:
    mark_results("a")
    mark_results("b")
    check_results("b", everything)
    MARKER.parent.rename("elsewhere")
    check_results("c", everything)


def test_a_marker_saved_by_an_editor_is_read() -> None:
    mark_results("a")
    MARKER.write_bytes(b"\xef\xbb\xbf" + MARKER.read_bytes().replace(b"\n", b"\r\n"))
    check_results("a", everything)


@pytest.mark.parametrize("content", ["", "[]", "{}", "study: a"])
def test_a_marker_that_names_no_study_is_one_line(content: str) -> None:
    MARKER.parent.mkdir()
    MARKER.write_text(content)
    with pytest.raises(ConfigError, match=rf"^{MARKER}: does not say which study .*into it$"):
        check_results("a", everything)
