"""Questions from the hub: its cache, offline, its revisions, and who gets the token; and files that need no hub."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from rllm_serving.datasets.loaders import DatasetError, load
from unit.datasets.test_loaders import GSM8K, jsonl

WORKFLOW = ROOT / "workflow"
SHA, OTHER = "a" * 40, "b" * 40


def run_offline(home: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a process whose hub is off and whose home and cache are `home`."""
    env = {**os.environ, "HOME": str(home), "HF_HOME": str(home / "hf"), "HF_HUB_OFFLINE": "1"}
    env |= {"PYTHONPATH": str(WORKFLOW), "HF_TOKEN": "hf_verysecret", "TMPDIR": str(home)}
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)


def test_a_local_file_leaves_nothing_behind(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "mine.jsonl", GSM8K)
    home = tmp_path / "home"
    home.mkdir()
    spec = {"source": "path", "format": "gsm8k", "path": path}
    result = run_offline(home, f"from rllm_serving.datasets.loaders import load; print(load('mine', {spec}).num_rows)")
    assert result.stdout.strip() == "3", result.stderr
    assert [str(file) for file in home.rglob("*") if file.is_file()] == []


@pytest.fixture
def hub_cache(tmp_path: Path) -> Path:
    """The datasets library's cache as it stands after GSM8K was loaded from the hub at revision SHA."""
    import datasets as library

    built = tmp_path / "built"
    file = jsonl(tmp_path / "rows.jsonl", GSM8K)
    library.load_dataset("json", data_files={"test": file}, cache_dir=str(built))
    (info,) = built.rglob("dataset_info.json")
    home = tmp_path / "home"
    folder = home / "hf" / "datasets" / "openai___gsm8k" / "main" / "0.0.0" / SHA
    folder.parent.mkdir(parents=True)
    info.parent.rename(folder)
    (folder / "json-test.arrow").rename(folder / "gsm8k-test.arrow")
    content = json.loads((folder / "dataset_info.json").read_text())
    content |= {"config_name": "main", "dataset_name": "gsm8k"}
    content["splits"]["test"]["dataset_name"] = "gsm8k"
    (folder / "dataset_info.json").write_text(json.dumps(content))
    return home


CODE = """
from rllm_serving.datasets.loaders import DatasetError, load
spec = {{"source": "hub", "format": "gsm8k", "id": "openai/gsm8k", "subset": "main", "revision": {revision!r}}}
try:
    print(load("gsm8k", spec)["gold"].to_pylist())
except DatasetError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_cached_hub_set_serves_offline_at_its_own_revision_only(hub_cache: Path) -> None:
    assert run_offline(hub_cache, CODE.format(revision=SHA)).stdout.strip() == "['18', '1200', '-2.5']"
    refused = run_offline(hub_cache, CODE.format(revision=OTHER)).stdout
    assert f"the cache holds openai/gsm8k at {SHA}, not at {OTHER}" in refused


def test_a_hub_set_that_is_not_cached_says_what_to_do_and_no_token(tmp_path: Path) -> None:
    result = run_offline(tmp_path, CODE.format(revision=SHA))
    assert result.stdout.startswith(f"datasets.gsm8k: openai/gsm8k at {SHA} did not load")
    assert "source: path" in result.stdout
    assert "verysecret" not in result.stdout + result.stderr


def test_hub_revisions_are_pinned() -> None:
    spec = {"source": "hub", "format": "gsm8k", "id": "openai/gsm8k", "revision": "main"}
    with pytest.raises(DatasetError, match=r"datasets\.gsm8k\.revision: 'main' is no full commit hash"):
        load("gsm8k", spec)


@pytest.mark.parametrize("token", [None, "hf_verysecret"])
def test_the_hub_gets_the_token_of_the_environment_only(monkeypatch: pytest.MonkeyPatch, token: str | None) -> None:
    import datasets as library

    asked: dict[str, Any] = {}

    def refuse(*names: Any, **options: Any) -> None:
        asked.update(options, names=names)
        raise ConnectionError(f"401 for {options['token']}")

    monkeypatch.setattr(library, "load_dataset_builder", refuse)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    spec = {
        "source": "hub",
        "format": "gpqa",
        "id": "Idavidrein/gpqa",
        "subset": "gpqa_diamond",
        "revision": SHA,
    }
    with pytest.raises(DatasetError) as caught:
        load("gpqa", spec)
    assert asked["names"] == ("Idavidrein/gpqa", "gpqa_diamond")
    assert (asked["token"], asked["revision"]) == (token or False, SHA)
    assert "verysecret" not in str(caught.value)
