"""Mistakes in a config, each told in one line: the key, what is wrong, what is allowed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ..errors import UserError
from .config_base import PARTIAL, PATTERNS, TAGS, Section, field_at, limits, nullable


class ConfigError(UserError):
    """A config that cannot be run; the message is one line: the key, what is wrong, what is allowed."""


def resolve_names(key: str, names: str | list[str], known: Mapping[str, Any] | list[str]) -> list[str]:
    """Return the names that a reference in the config stands for.

    Args:
        key: dotted key of the reference, for the message.
        names: "all", or the names that are listed.
        known: names that may be listed, in their order.

    Raises:
        ConfigError: when a name is unknown, or there is none to choose from.
    """
    if names == "all":
        if not known:
            raise ConfigError(f"{key}: there is none to choose from; define one")
        return list(known)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(f"{key}: unknown {', '.join(map(repr, unknown))}; allowed: {', '.join(known)}")
    return list(names)


def first_error(error: ValidationError, model: type[Section]) -> ConfigError:
    """Return the most telling of the errors of a config: the one nearest to the top, of those the first."""
    return ConfigError(_one_line(min(error.errors(include_url=False), key=lambda one: len(one["loc"])), model))


_EXPECTED = {
    "model_type": "a mapping (key: value)",
    "dict_type": "a mapping (key: value)",
    "list_type": "a list",
    "string_type": "text (put a number in quotes)",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
}
"""pydantic's type of an error -> what the value should be."""


def _one_line(error: ErrorDetails, model: type[Section]) -> str:
    location = [part for part in error["loc"] if part not in TAGS]
    kind, context = error["type"], error.get("ctx", {})
    if location[-1:] == ["[key]"]:
        location = location[:-2]
    elif location[1:] == [error["input"]]:  # the name of an entry of quantizations or setups
        location = location[:1]
    key, value = ".".join(map(str, location)) or "the config", _short(error["input"])
    field = field_at(model, location)
    if kind == "keys":
        return f"{key}: {error['msg']}"
    if kind == "twice":
        return f"{key}: {value} has the same entry twice; entries must be unique"
    if kind == "partial":
        return f"{key}: {value} is not valid; allowed: names that do not end in {PARTIAL}, as unfinished runs do"
    if kind == "string_too_long":
        return f"{key}: {value} is too long; allowed: up to {context['max_length']} characters"
    if kind in ("too_short", "string_too_short"):
        return f"{key}: must not be empty"
    if kind in _EXPECTED:
        alternative = " or null" if field and nullable(field) else ""
        return f"{key}: {value} is not {_EXPECTED[kind]}{alternative}"
    if kind == "literal_error":
        allowed = ", ".join(re.findall(r"'([^']*)'", context["expected"]))
        return f"{key}: {value} is not one of {allowed}{' or a list of names' * ('<all>' in error['loc'])}"
    if kind == "string_pattern_mismatch":
        return f"{key}: {value} is not valid; allowed: {PATTERNS[context['pattern']]}"
    if text := (limits(field) if field else "") or limits(context):
        return f"{key}: {value} is out of range; allowed: {text}"
    return f"{key}: {error['msg']}"


def _short(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
