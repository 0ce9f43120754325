"""The record of a checkpoint as one program gets it, with a stand-in for the program's environment."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rllm_serving.models import tokenizer_check
from rllm_serving.models.checkpoints import ModelError
from rllm_serving.models.tokenizer_check import KEPT_DIFFERENCES, describe_mending, prepare_for
from rllm_serving.serving.process import ChildError

SPEC = {"role": "rllm", "thinking": True}
FINE: dict[str, Any] = {"class": "TokenizersBackend", "patch": {"generic_class": False, "pinned_clock": False}}
FINE |= {"files": [], "before": None}
DIFFERENCE = {"in": "encoding", "text": "spaces", "what": "token 0 is [1] instead of [2]"}
MENDED = {
    **FINE,
    "patch": {"generic_class": True, "pinned_clock": True},
    "files": ["tokenizer_config.json"],
    "before": {"class": "LlamaTokenizer", "differences": [DIFFERENCE] * 9},
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    file = tmp_path / "m" / "model.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"path": "/checkpoints/m", "bytes": 7}))
    return file


def prepared(
    model: Path, monkeypatch: pytest.MonkeyPatch, report: dict[str, Any] | None, program: str = "vllm"
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The record, and the job that the environment was given; without a report it fails."""
    jobs: list[dict[str, Any]] = []

    def work(name: str, python: Path, module: str, arguments: Sequence[str], **variables: str) -> None:
        assert module == "rllm_serving.models.tokenizer_worker" and variables["CUDA_VISIBLE_DEVICES"] == ""
        jobs.append(json.loads(Path(arguments[0]).read_text()))
        if report is None:
            raise ChildError("ended with code 1: no such module")
        Path(jobs[0]["report"]).write_text(json.dumps(report))

    monkeypatch.setattr(tokenizer_check, "run_in_environment", work)
    record = prepare_for(program, model, Path("python"), model.parent / "for", SPEC, "models.m")
    return record, jobs[0]


def test_what_needs_no_mending_stays_where_it_is(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record, job = prepared(model, monkeypatch, FINE)
    assert record["path"] == "/checkpoints/m" and record["bytes"] == 7
    assert record["tokenizer"] == {"program": "vllm", **FINE, "pinned_date": None}
    assert json.loads((model.parent / "for" / "model.json").read_text()) == record
    assert (job["folder"], job["thinking"], job["needs_template"]) == ("/checkpoints/m", True, True)
    assert "gives the tokens of its file" in describe_mending(record)


def test_what_was_mended_is_loaded_from_the_folder_of_links(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record, job = prepared(model, monkeypatch, MENDED)
    assert record["path"] == job["mended"] == str(model.parent / "for" / "checkpoint")
    assert record["tokenizer"]["pinned_date"] == "2024-07-26"
    assert len(record["tokenizer"]["before"]["differences"]) == KEPT_DIFFERENCES
    assert describe_mending(record) == (
        "mended (generic class, pinned clock; tokenizer_config.json): loaded as LlamaTokenizer; encoding 'spaces': "
        "token 0 is [1] instead of [2]"
    )


@pytest.mark.parametrize(
    ("report", "message"),
    [
        ({"refusal": "it loses text"}, r"^models\.m: its tokenizer cannot be used with vllm: it loses text$"),
        (None, r"^models\.m: looking at its tokenizer as vllm loads it ended with code 1: no such module$"),
    ],
)
def test_what_cannot_be_mended_is_refused_in_a_line(
    model: Path, monkeypatch: pytest.MonkeyPatch, report: dict[str, Any] | None, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        prepared(model, monkeypatch, report)
    assert not (model.parent / "for" / "model.json").exists()
