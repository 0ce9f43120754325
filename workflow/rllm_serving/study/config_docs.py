"""Write what is made of the config's models: a JSON schema for editors, and the tables of config/README.md.

PYTHONPATH=workflow python -m rllm_serving.study.config_docs
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema

from ..serving.engines import Options
from .config import Config
from .config_base import ABSENT, HUB_ID, LINE, NAME, Section, limits, notes, nullable, pattern_of, section_of
from .config_options import Serving

ROOT = Path(__file__).parents[3]
SCHEMA, README = ROOT / "workflow" / "schemas" / "config.schema.json", ROOT / "config" / "README.md"

_TABLE = re.compile(r"<!-- keys of (.+?) -->\n.*?<!-- end -->", re.DOTALL)
"""A table in the README; its first line names the section, "the config" the whole."""


class _Schema(GenerateJsonSchema):
    """A schema without titles of keys."""

    # A key that is left out has no default that JSON could hold.
    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Leave out titles, which only repeat the keys."""
        return False


def schema_text() -> str:
    """Return the JSON schema of a config."""
    schema = Config.model_json_schema(schema_generator=_Schema)
    return json.dumps(_without_notes(schema), indent=1) + "\n"


def _without_notes(value: Any) -> Any:
    """Leave out what is for the README alone, and the line breaks of docstrings."""
    if isinstance(value, dict):
        return {name: _without_notes(part) for name, part in value.items() if not str(name).startswith("x-")}
    if isinstance(value, list):
        return [_without_notes(part) for part in value]
    return " ".join(value.split()) if isinstance(value, str) else value


def readme_text(text: str) -> str:
    """Return the README with its tables made anew."""
    return _TABLE.sub(lambda match: f"<!-- keys of {match[1]} -->\n{_table(match[1])}\n<!-- end -->", text)


def sections() -> dict[str, type[Section]]:
    """Return the sections that have a table of their own: dotted key, NAME for what the user names -> section."""
    tables: dict[str, type[Section]] = {"the config": Config}
    for name, field in Config.model_fields.items():
        section = section_of(field.annotation)
        if section is None:
            continue
        tables[f"{name}.NAME" if get_origin(field.annotation) is dict else name] = section
        if section.entry not in (None, Serving):
            tables[f"{name}.NAME"] = section.entry
    return tables


def _table(name: str) -> str:
    top = name == "the config"
    columns = ["key", "default", "allowed", "meaning", *(["redone when changed"] if top else [])]
    rows = _rows(sections()[name], "", inline=not top)
    lines = [columns, ["---"] * len(columns), *([*row[:4], *row[4:] * top] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |".replace("| --- ", "|---").replace("--- |", "---|") for line in lines)


def _rows(section: type[Section], prefix: str, inline: bool) -> list[list[str]]:
    """Return the rows of a section's table; with `inline` also those of the sections within that have no table."""
    rows = []
    for name, field in section.model_fields.items():
        default = notes(field).get("x-default") or _default(section, name, field)
        allowed = notes(field).get("x-allowed") or _allowed(field)
        rows.append(
            [
                f"`{prefix}{name}`",
                default,
                allowed,
                " ".join((field.description or "").split()),
                notes(field).get("x-redone", ""),
            ]
        )
        within = section_of(field.annotation)
        repeated = allowed.startswith("as ") or within in sections().values()
        if inline and within is not None and not repeated:
            named = "NAME." if get_origin(field.annotation) is dict else ""
            rows += _rows(within, f"{prefix}{name}.{named}", inline)
    return rows


def _default(section: type[Section], name: str, field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if values := [value for rule in section.rules if name in rule.required for value in rule.values]:
        return f"required for {' and '.join(values)}"
    value = getattr(Options(), name) if section is Serving else field.default
    if value is ABSENT:
        return "none"
    return _shown({} if isinstance(value, Section) else value)


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) if isinstance(value, int) else f"`{str(value).replace(chr(39), '')}`"


def _allowed(field: FieldInfo) -> str:
    kind: Any = next(part for part in get_args(field.annotation) if part) if nullable(field) else field.annotation
    if get_origin(kind) is Literal:
        text = ", ".join(f"`{value}`" for value in get_args(kind))
    elif get_origin(kind) is Union:
        text = "`all` or list of names"
    elif get_origin(kind) is list:
        text = "list of names"
    elif section_of(kind) is not None:
        text = "mapping"
    else:
        text = _PATTERNS.get(pattern_of(field) or "") or f"{_TYPES[kind]} {limits(field)}".strip()
    return f"null, {text}" if nullable(field) else text


_TYPES = {int: "whole number", float: "", bool: "true, false", str: "text"}
_PATTERNS = {NAME: "name", HUB_ID: "`owner/name`", LINE: "text"}


if __name__ == "__main__":
    SCHEMA.write_text(schema_text(), encoding="utf-8")
    README.write_text(readme_text(README.read_text(encoding="utf-8")), encoding="utf-8")
