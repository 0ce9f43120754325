"""What engines and the tool that quantizes make of checkpoints whose tokenizers they are known to load wrongly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import run, snakemake
from helpers.tokenizer_fixtures import byte_level, checkpoint, template
from rllm_serving.environments import python
from rllm_serving.models.tokenizer_check import prepare_for

PROGRAMS = ("vllm", "sglang", "quantize")
PIECES = r" ?[A-Za-z]+|\d{1,2}| ?[^\sA-Za-z\d]+|\s+"
"""Not as Qwen's own tokenizers split texts."""


@pytest.fixture(scope="module")
def environments(study_folder: Path, engine_environments: dict[str, Path]) -> dict[str, Path]:
    """Program -> its environment."""
    folder = "resources/environments/quantize-cpu"
    done = run(snakemake(study_folder, f"{folder}/environment.json"))
    assert done.returncode == 0, done.stdout[-6000:]
    return {**engine_environments, "quantize": study_folder / folder}


def prepared(environments: dict[str, Path], program: str, model: Path) -> dict[str, Any]:
    target = model.with_name(f"{model.name}-{program}")
    spec = {"role": "rllm"}
    return prepare_for(program, model.with_suffix(".json"), python(environments[program]), target, spec, "models.m")


@pytest.mark.parametrize("kind", ["plain", "all"])
def test_a_byte_level_tokenizer_that_is_called_a_llamas_has_the_same_tokens_everywhere(
    environments: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    """As DeepSeek-R1-Distill-Llama is labelled; with `all` thinking tags are special and the template has a clock."""
    model = checkpoint(tmp_path / "m", byte_level(special_tags=kind == "all"), template(kind == "all"))
    records = {program: prepared(environments, program, model) for program in PROGRAMS}
    for program, record in records.items():
        found = record["tokenizer"]
        assert found["differences"] == [] and found["patch"]["generic_class"], program
        assert found["before"]["class"] == "LlamaTokenizer" and found["before"]["differences"], program
        assert found["special"] == {"<think>": False, "</think>": False} and found["clock"] is False
        assert found["pinned_date"] == ("2024-07-26" if kind == "all" else None)
        assert (Path(record["path"]) / "model.safetensors").is_symlink()
    for digest in ("ids_sha256", "chat_sha256", "chat_tokens"):
        assert len({record["tokenizer"][digest] for record in records.values()}) == 1
    # vLLM and the tool lose spaces and line ends; SGLang mends most of it by itself.
    for program in ("vllm", "quantize"):
        assert any("Ġ" in one["what"] for one in records[program]["tokenizer"]["before"]["differences"])


def test_other_classes_that_split_otherwise_are_mended_too(environments: dict[str, Path], tmp_path: Path) -> None:
    tokenizer = byte_level(pieces=PIECES)
    model = checkpoint(tmp_path / "m", tokenizer, tokenizer_class="Qwen2Tokenizer", model_type="qwen3")
    records = [prepared(environments, program, model)["tokenizer"] for program in PROGRAMS]
    assert all(record["differences"] == [] for record in records)
    assert len({record["chat_sha256"] for record in records}) == 1


def test_what_is_loaded_rightly_is_left_alone(environments: dict[str, Path], tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "m", byte_level(), tokenizer_class="PreTrainedTokenizerFast")
    for program in PROGRAMS:
        record = prepared(environments, program, model)
        assert record["path"] == str(model) and record["tokenizer"]["before"] is None


def test_every_run_of_the_study_says_which_tokens_it_was_served_with(small_study: Path) -> None:
    records = [json.loads(file.read_text()) for file in small_study.glob("results/runs/*/*/*/*/*/*/run.json")]
    assert records
    for record in records:
        found = record["model"]["tokenizer"]
        assert found["program"] == record["server"]["engine"] and found["differences"] == []
        assert {session["prompt_tokens_checked"] for session in record["sessions"]} == {found["chat_tokens"]}
