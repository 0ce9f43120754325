"""Folders of links in which a tokenizer's files are other ones."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest
from helpers.tokenizer_fixtures import TAGS, byte_level, checkpoint, template
from jinja2.sandbox import ImmutableSandboxedEnvironment
from rllm_serving.models.tokenizer_patch import GENERIC, PINNED, Patch, linked, pin
from tokenizers import Tokenizer


def rendered(text: str, now: datetime) -> str:
    """A template as transformers renders it."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["strftime_now"] = now.strftime
    messages = [{"role": "user", "content": "2 + 2?"}]
    return environment.from_string(text).render(messages=messages, add_generation_prompt=True, bos_token="<s>")


def config(folder: Path) -> dict[str, object]:
    return dict(json.loads((folder / "tokenizer_config.json").read_text()))


def test_only_what_is_changed_is_no_link_and_the_source_stays(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "m", byte_level())
    before = {file.name: file.read_bytes() for file in source.iterdir()}
    target = tmp_path / "out" / "checkpoint"
    assert linked(source, target, Patch(generic_class=True)) == ["tokenizer_config.json"]
    assert [file.name for file in target.iterdir() if not file.is_symlink()] == ["tokenizer_config.json"]
    assert (target / "model.safetensors").read_bytes() == b"weights"
    assert config(target)["tokenizer_class"] == GENERIC and config(target)["bos_token"] == config(source)["bos_token"]
    assert {file.name: file.read_bytes() for file in source.iterdir()} == before
    # A second time it is made anew, whatever was there.
    (target / "old").touch()
    linked(source, target, Patch(generic_class=True))
    assert not (target / "old").exists()


def test_a_checkpoint_without_a_tokenizer_config_gets_one(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "m", byte_level())
    (source / "tokenizer_config.json").unlink()
    assert linked(source, tmp_path / "out", Patch(True, True, True)) == ["tokenizer_config.json"]


def test_thinking_tags_become_ordinary_wherever_they_are_called_special(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "m", byte_level(special_tags=True))
    listed = {"additional_special_tokens": ["<think>", {"content": "</think>"}, "<|user|>"]}
    decoder = {"9": {"content": "</think>", "special": True}}
    (source / "tokenizer_config.json").write_text(json.dumps({**listed, "added_tokens_decoder": decoder}))
    (source / "special_tokens_map.json").write_text(json.dumps({"extra_special_tokens": {"end": "</think>"}}))
    changed = linked(source, tmp_path / "out", Patch(ordinary_thinking_tags=True))
    assert changed == ["special_tokens_map.json", "tokenizer.json", "tokenizer_config.json"]
    before, after = (Tokenizer.from_file(str(folder / "tokenizer.json")) for folder in (source, tmp_path / "out"))
    text = "<think>\nso 2 + 2 = 4</think> 4 <|end|>"
    assert after.encode(text).ids == before.encode(text).ids
    assert before.decode(before.encode(text).ids) == "\nso 2 + 2 = 4 4 "
    assert after.decode(after.encode(text).ids) == "<think>\nso 2 + 2 = 4</think> 4 "
    assert {token.content for token in after.get_added_tokens_decoder().values() if not token.special} == set(TAGS)
    assert config(tmp_path / "out") == {
        "additional_special_tokens": ["<|user|>"],
        "added_tokens_decoder": {"9": {"content": "</think>", "special": False}},
    }


@pytest.mark.parametrize(
    "form",
    [
        "%d %b %Y",
        "%Y-%m-%d %H:%M:%S",
        "%A, %B %-d, %Y",
        "100%% of %j, %-m/%y %%d",
    ],
)
@pytest.mark.parametrize(
    "text",
    [
        "{{ strftime_now('FORM') }}",
        "  {%- if strftime_now is defined %}{% set day = strftime_now('FORM') %}{% endif %}\nToday: {{ day }}",
        "\n  {% for m in messages %}\n  {{ strftime_now('FORM') ~ m.content }}\n  {% endfor %}\n",
        "{%- macro head() %}{{ strftime_now('FORM') }}{% endmacro %} {{ head() }}",
    ],
)
def test_a_pinned_template_says_one_date_and_changes_nothing_else(text: str, form: str) -> None:
    text = text.replace("FORM", form)
    today = datetime(2031, 11, 2, 13, 14)
    assert rendered(pin(text), today) == rendered(text, PINNED) != rendered(text, today)


def test_templates_are_pinned_wherever_they_are(tmp_path: Path) -> None:
    clock = template(asks_for_the_time=True)
    named = [{"name": "default", "template": clock}, {"name": "plain", "template": template()}]
    source = checkpoint(tmp_path / "m", byte_level())
    (source / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    (source / "chat_template.jinja").write_text(clock)
    (source / "additional_chat_templates").mkdir()
    (source / "additional_chat_templates" / "tools.jinja").write_text(clock)
    changed = linked(source, tmp_path / "out", Patch(pinned_clock=True))
    assert changed == ["additional_chat_templates/tools.jinja", "chat_template.jinja", "tokenizer_config.json"]
    assert config(tmp_path / "out")["chat_template"] == [{**named[0], "template": pin(clock)}, named[1]]
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == pin(clock)
