"""Where a model's folder says which tokens end thinking and answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rllm_serving.measurement.special_tokens import end_of_sequence, think_close

ADDED = [{"id": 7, "content": "</think>"}, {"id": 8, "content": "<|im_end|>"}, {"id": 9, "content": "<|endoftext|>"}]


def write(folder: Path, **files: dict[str, Any]) -> Path:
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("files", "ids"),
    [
        ({}, set()),
        ({"config": {"eos_token_id": 3}}, {3}),
        ({"config": {"eos_token_id": 3}, "generation_config": {"eos_token_id": [4, 5]}}, {3, 4, 5}),
        ({"config": {"eos_token_id": None}, "tokenizer_config": {"eos_token": "<|im_end|>"}}, {8}),
        ({"config": {"eos_token_id": 9}, "tokenizer_config": {"eos_token": {"content": "<|im_end|>"}}}, {8, 9}),
        ({"config": {}, "tokenizer_config": {"eos_token": None}}, set()),
    ],
)
def test_an_answer_ends_at_the_models_and_the_tokenizers_tokens(
    files: dict[str, dict[str, Any]], ids: set[int], tmp_path: Path
) -> None:
    assert end_of_sequence(write(tmp_path, tokenizer={"added_tokens": ADDED}, **files)) == ids


def test_the_end_of_thinking_is_a_token_of_the_tokenizer_or_none(tmp_path: Path) -> None:
    assert think_close(tmp_path) is None and end_of_sequence(tmp_path) == frozenset()
    assert think_close(write(tmp_path, tokenizer={"model": {}})) is None
    assert think_close(write(tmp_path, tokenizer={"added_tokens": ADDED})) == 7
