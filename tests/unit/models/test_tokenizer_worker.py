"""Tokenizers that were loaded, compared with their files; what loads them here plays transformers."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from helpers.tokenizer_fixtures import byte_level, checkpoint, template
from jinja2.sandbox import ImmutableSandboxedEnvironment
from rllm_serving.models import tokenizer_worker
from rllm_serving.models.tokenizer_patch import GENERIC
from rllm_serving.models.tokenizer_worker import RefusedError, settle
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers


class Played:
    """A tokenizer as transformers 5 loads it: the class that tokenizer_config.json names rebuilds its parts."""

    def __init__(self, folder: Path, heals: bool = True) -> None:
        self.config = json.loads((folder / "tokenizer_config.json").read_text())
        self.backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.chat_template = self.config.get("chat_template")
        if self.config["tokenizer_class"] != GENERIC or not heals:
            self.backend.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
            self.backend.decoder = decoders.Replace("▁", " ")
            self.backend.add_special_tokens([AddedToken("<unk>", special=True)])

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        ids = list(self.backend.encode(text, add_special_tokens=False).ids)
        adds = add_special_tokens and self.config.get("bos")
        return [*self.backend.encode("<|begin|>").ids, *ids] if adds else ids

    def decode(self, ids: Sequence[int], skip_special_tokens: bool, **_: Any) -> str:
        return self.backend.decode(list(ids), skip_special_tokens=skip_special_tokens)

    def get_added_vocab(self) -> dict[str, int]:
        return {token.content: number for number, token in self.backend.get_added_tokens_decoder().items()}

    def apply_chat_template(self, messages: list[dict[str, str]], **variables: Any) -> str:
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        clock = sys.modules["transformers.utils"].chat_template_utils
        environment.globals["strftime_now"] = lambda form: clock.datetime.now().strftime(form)
        return environment.from_string(self.chat_template).render(messages=messages, bos_token="<|begin|>", **variables)


@pytest.fixture(autouse=True)
def transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    utils, clock = ModuleType("transformers.utils"), ModuleType("transformers.utils.chat_template_utils")
    clock.datetime = datetime  # type: ignore[attr-defined]
    utils.chat_template_utils = clock  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "transformers", ModuleType("transformers"))
    monkeypatch.setitem(sys.modules, "transformers.utils", utils)
    monkeypatch.setattr(tokenizer_worker, "load", lambda folder, *_: Played(folder))


def settled(folder: Path, **changes: Any) -> dict[str, Any]:
    job = {"folder": str(folder), "mended": str(folder.with_name("mended")), "program": "vllm"}
    return settle({**job, "trust_remote_code": False, "thinking": None, "needs_template": True, **changes})


def test_a_tokenizer_that_does_what_its_file_says_is_left_alone(tmp_path: Path) -> None:
    report = settled(checkpoint(tmp_path / "m", byte_level(), tokenizer_class=GENERIC))
    assert report["differences"] == [] and report["before"] is None and not any(report["patch"].values())
    assert report["special"] == {"<think>": False, "</think>": False} and report["clock"] is False
    assert not (tmp_path / "mended").exists()


def test_a_class_that_splits_otherwise_is_seen_and_mended(tmp_path: Path) -> None:
    report = settled(checkpoint(tmp_path / "m", byte_level()))
    seen = {(one["in"], one["text"]) for one in report["before"]["differences"]}
    assert {("encoding", "newlines"), ("decoding", "code"), ("encoding", "chat prompt")} <= seen
    assert ("encoding", "tokens that loading added") in seen
    assert any("Ġ" in one["what"] for one in report["before"]["differences"])
    assert report["differences"] == [] and report["files"] == ["tokenizer_config.json"]
    as_it_should = settled(checkpoint(tmp_path / "right" / "m", byte_level(), tokenizer_class=GENERIC))
    for digest in ("ids_sha256", "chat_sha256", "chat_tokens"):
        assert report[digest] == as_it_should[digest] == report["before"][digest]


def test_special_thinking_tags_and_a_clock_are_mended_together(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "m", byte_level(special_tags=True), template(asks_for_the_time=True))
    report = settled(source)
    assert report["before"]["special"] == {"<think>": True, "</think>": True} and report["before"]["clock"] is True
    assert report["special"] == {"<think>": False, "</think>": False} and report["clock"] is False
    assert report["patch"] == dict.fromkeys(("generic_class", "ordinary_thinking_tags", "pinned_clock"), True)
    prompt = Played(tmp_path / "mended").apply_chat_template([], tokenize=False)
    assert prompt == "<|begin|>26 Jul 2024\n"


def test_tags_that_are_several_tokens_are_neither_special_nor_ordinary(tmp_path: Path) -> None:
    tokenizer = json.loads(byte_level().to_str())
    tokenizer["added_tokens"] = [token for token in tokenizer["added_tokens"] if "think" not in token["content"]]
    source = checkpoint(tmp_path / "m", Tokenizer.from_str(json.dumps(tokenizer)), tokenizer_class=GENERIC)
    assert settled(source)["special"] == {"<think>": None, "</think>": None}


def test_sglang_adds_to_a_prompt_what_its_tokenizer_adds_to_any_but_the_empty_text(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "m", byte_level(), tokenizer_class=GENERIC)
    (source / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": GENERIC, "chat_template": template(), "bos": True})
    )
    assert settled(source, program="sglang")["differences"] == []


@pytest.mark.parametrize(
    ("chat_template", "message"),
    [
        ("", "has no chat template"),
        ("{{ raise('no') }}", "its chat template fails: 'raise' is undefined"),
        # An offset of strftime's that the pinned clock does not know.
        ("{{ strftime_now('%Q %s %Y') }}", "other ones when its clock is pinned"),
    ],
)
def test_what_cannot_be_asked_is_refused(tmp_path: Path, chat_template: str, message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        settled(checkpoint(tmp_path / "m", byte_level(), chat_template))
    if not chat_template:
        # A draft is asked nothing itself.
        assert settled(checkpoint(tmp_path / "d", byte_level(), ""), needs_template=False)["chat_tokens"] is None


def test_what_stays_different_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer_worker, "load", lambda folder, *_: Played(folder, heals=False))
    with pytest.raises(RefusedError, match="too it differs from the file in encoding 'spaces': token 0 is"):
        settled(checkpoint(tmp_path / "m", byte_level()))


def test_a_file_that_loses_text_itself_is_refused(tmp_path: Path) -> None:
    tokenizer = byte_level()
    tokenizer.decoder = decoders.Fuse()
    with pytest.raises(RefusedError, match="its own file loses text: 'WhatĠis"):
        settled(checkpoint(tmp_path / "m", tokenizer, tokenizer_class=GENERIC))


def test_without_a_file_only_what_comes_back_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = checkpoint(tmp_path / "m", byte_level(), tokenizer_class=GENERIC)
    loaded = Played(source)
    (source / "tokenizer.json").unlink()
    monkeypatch.setattr(tokenizer_worker, "load", lambda *_: loaded)
    report = settled(source)
    assert report["reference"] is None and report["differences"] == [] and report["chat_tokens"] > 100
