"""Paths of a config: each is looked at, and what is wrong with one is a line with its key."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers.studies import changed
from rllm_serving.study.config import complete_config
from rllm_serving.study.config_errors import ConfigError
from rllm_serving.study.paths import check_path, config_paths


def test_only_entries_of_source_path_are_paths() -> None:
    model = {"source": "path", "path": "~/m", "role": "llm", "pair": "x"}
    assert dict(config_paths(complete_config(changed(("models.m", model))))) == {"models.m.path": "~/m"}


def test_a_path_begins_in_the_home_or_where_snakemake_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "m").mkdir()
    assert check_path("key", "~/m") == tmp_path / "m"
    monkeypatch.chdir(tmp_path)
    assert check_path("key", "m") == Path("m")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("~nobody-of-this-name/m", "no such user's home is known here; write the whole path"),
        ("nowhere/m", "nowhere/m is not there; give an existing file or folder"),
        ("file/m", "file/m is not there; give an existing file or folder"),
        ("m" * 300, "cannot be read (File name too long); give another file or folder"),
        ("round", "round cannot be read (Too many levels of symbolic links); give another"),
        ("pipe", "pipe is neither a file nor a folder; give one of these"),
        ("/dev/null", "/dev/null is neither a file nor a folder"),
    ],
)
def test_what_cannot_be_read_is_one_line(text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "round").symlink_to("round")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError) as caught:
        check_path("traces.t.path", text)
    line = str(caught.value)
    assert line.startswith("traces.t.path: ") and said in line and "\n" not in line


@pytest.mark.parametrize("is_folder", [True, False])
def test_what_this_user_may_not_read_is_one_line(
    is_folder: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "closed"
    place.mkdir() if is_folder else place.touch()
    monkeypatch.setattr(os, "access", lambda path, mode: path != place)  # root may read all
    with pytest.raises(ConfigError, match=r"^key: .*closed cannot be read \(Permission denied\)"):
        check_path("key", str(place))
