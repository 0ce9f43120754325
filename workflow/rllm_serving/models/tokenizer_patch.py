"""A folder of links to a checkpoint in which only the files that a tokenizer is loaded from are other ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from .token_probe import THINKING_TAGS

PINNED = datetime(2024, 7, 26)
"""What a chat template's clock says: the date that Llama's templates give themselves where there is no clock."""
GENERIC = "PreTrainedTokenizerFast"
"""The class that takes tokenizer.json as it is, under a name that every version of transformers knows."""
CLOCK = "strftime_now"
_DIRECTIVES = "aAbBcdHIjmMpSUwWxXyYZfzeFDTRGVuhklP"
"""Of strftime; none of those that depend on where a machine stands."""


@dataclass(frozen=True)
class Patch:
    """What is changed for the engine to read the tokenizer as its file has it.

    Attributes:
        generic_class: tokenizer_config.json names GENERIC as class, and no clean-up of spaces in decoded texts.
        ordinary_thinking_tags: THINKING_TAGS are no special tokens.
        pinned_clock: chat templates see PINNED as date and time.
    """

    generic_class: bool = False
    ordinary_thinking_tags: bool = False
    pinned_clock: bool = False

    def __bool__(self) -> bool:
        return self.generic_class or self.ordinary_thinking_tags or self.pinned_clock


def linked(source: Path, target: Path, patch: Patch) -> list[str]:
    """Make `target` a folder of links to the files of `source`, with those that `patch` is about written anew.

    Args:
        source: the checkpoint.
        target: made anew; what is there goes.
        patch: what is changed.

    Returns:
        Names of the files that differ from the source's.
    """
    if target.is_symlink():
        target.unlink()
    elif target.exists():
        shutil.rmtree(target)
    changed = _changed_files(source, patch)
    for file in sorted(path for path in source.rglob("*") if path.is_file() and path.name[0] != "."):
        name = file.relative_to(source)
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if str(name) in changed:
            place.write_text(changed[str(name)], encoding="utf-8")
        else:
            place.symlink_to(file.absolute())
    return sorted(changed)


def pin(template: str) -> str:
    """Return a chat template whose `strftime_now` is a macro that knows PINNED alone.

    A macro of a template hides the function of that name that the library gives it. It ends with a line end that jinja
    removes, as chat templates are read with `trim_blocks`: the template itself begins as before.
    """
    # `%%` is set aside first, and comes back last: what it stands before is no directive.
    values = [("%%", "\\0")]
    values += [(f"%-{one}", PINNED.strftime(f"%-{one}")) for one in "dmHIMSjyeklU"]
    values += [(f"%{one}", PINNED.strftime(f"%{one}")) for one in _DIRECTIVES]
    values += [("\\0", "%")]
    chain = "".join(f' | replace("{directive}", "{text}")' for directive, text in values)
    return f"{{%- macro {CLOCK}(format) -%}}{{{{- format{chain} -}}}}{{%- endmacro %}}\n{template}"


def _changed_files(source: Path, patch: Patch) -> dict[str, str]:
    """Name -> new content of each file that becomes another one."""
    edits: dict[str, list[Callable[[dict[str, Any]], None]]] = {}
    if patch.generic_class:
        edits.setdefault("tokenizer_config.json", []).append(_make_generic)
    if patch.ordinary_thinking_tags:
        for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
            edits.setdefault(name, []).append(_make_tags_ordinary)
    if patch.pinned_clock:
        edits.setdefault("tokenizer_config.json", []).append(_pin_templates)
        edits.setdefault("chat_template.json", []).append(_pin_templates)
    changed: dict[str, str] = {}
    for name, steps in edits.items():
        # A checkpoint may lack tokenizer_config.json; its class is named all the same.
        if not (source / name).is_file() and _make_generic not in steps:
            continue
        before = json.loads((source / name).read_text(encoding="utf-8")) if (source / name).is_file() else {}
        after = json.loads(json.dumps(before))
        for step in steps:
            step(after)
        if after != before:
            changed[name] = json.dumps(after, indent=2, ensure_ascii=False) + "\n"
    if patch.pinned_clock:
        for file in sorted(source.rglob("*.jinja")):
            text = file.read_text(encoding="utf-8")
            if CLOCK in text:
                changed[str(file.relative_to(source))] = pin(text)
    return changed


def _make_generic(config: dict[str, Any]) -> None:
    config |= {"tokenizer_class": GENERIC, "clean_up_tokenization_spaces": False}


def _make_tags_ordinary(config: dict[str, Any]) -> None:
    """Of tokenizer.json, tokenizer_config.json or special_tokens_map.json, which have tokens under different keys."""
    decoder = config.get("added_tokens_decoder", {})
    for token in (*config.get("added_tokens", []), *decoder.values()):
        if token["content"] in THINKING_TAGS:
            token["special"] = False
    for key in ("additional_special_tokens", "extra_special_tokens"):
        listed = config.get(key)
        if isinstance(listed, list):
            config[key] = [token for token in listed if _content(token) not in THINKING_TAGS]
        elif isinstance(listed, dict):
            config[key] = {name: token for name, token in listed.items() if _content(token) not in THINKING_TAGS}


def _content(token: str | Mapping[str, Any]) -> str:
    return token if isinstance(token, str) else str(token["content"])


def _pin_templates(config: dict[str, Any]) -> None:
    template = config.get("chat_template")
    if isinstance(template, str) and CLOCK in template:
        config["chat_template"] = pin(template)
    elif isinstance(template, list):
        for entry in template:
            if CLOCK in entry["template"]:
                entry["template"] = pin(entry["template"])
