"""What the sections of a config are made of: kinds of values, keys with their explanations, rules between keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    Tag,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, PydanticCustomError

NAME, HUB_ID, COMMIT = r"^[a-zA-Z0-9][a-zA-Z0-9._-]*$", r"^[^/\s]+/[^/\s]+$", r"^[0-9a-f]{40}$"
VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"
LINE = r"^[^\x00-\x1f\x7f]+$"
PATTERNS = {
    NAME: 'letters, digits, ".", "_" and "-", the first a letter or a digit',
    HUB_ID: "owner/name, as the hub has it",
    COMMIT: "a full commit hash, 40 hex digits",
    VARIABLE: "name of an environment variable",
    LINE: "text in one line, without tabs",
}
"""What each pattern means, in words."""


def _unique(values: list[Any]) -> list[Any]:
    if any(value in values[:place] for place, value in enumerate(values)):
        raise PydanticCustomError("twice", "has the same entry twice")
    return values


def _finished(name: str) -> str:
    if name.endswith(PARTIAL):
        raise PydanticCustomError("partial", "ends in that of unfinished runs")
    return name


PARTIAL = ".partial"
"""How the folders of unfinished runs end, and so no name."""
LONGEST_NAME = 64
"""Characters: names of files are put together from several, and file systems end at 255."""
MOST = 10_000_000
"""Of anything that is counted: more would be a mistake, and the plan of such a study would never end."""
Unique = AfterValidator(_unique)
Name = Annotated[str, Field(pattern=NAME, max_length=LONGEST_NAME), AfterValidator(_finished)]
HubId = Annotated[str, Field(pattern=HUB_ID)]
Commit = Annotated[str, Field(pattern=COMMIT)]
Text = Annotated[str, Field(min_length=1, pattern=LINE)]
Count = Annotated[int, Field(ge=1, le=MOST)]
Names = Annotated[list[Name], Field(min_length=1, json_schema_extra={"uniqueItems": True}), Unique]
NamesOrAll = Annotated[
    Annotated[Literal["all"], Tag("<all>")] | Annotated[Names, Tag("<names>")],
    Discriminator(lambda value: "<all>" if isinstance(value, str) else "<names>"),
]

TAGS = ("<all>", "<names>", "<list>", "<mapping>", "<text>")
"""Which of two types a value was read as; pydantic puts it among the keys of an error."""
ABSENT = object()
"""Default of a key that is left out of the completed config when it is not given. As a value nothing is null."""


def key(default: Any = ABSENT, *, allowed: str = "", shown: str = "", redone: str = "", **limit: Any) -> Any:
    """Declare a key of a section; the docstring below it says what it means.

    Args:
        default: its value when it is not given; `...`: it is required.
        allowed: the values that are allowed, where their type does not say it.
        shown: what the README gives as its default, where that is not the value.
        redone: what is measured or made again when it changes (keys at the top).
        limit: `ge`, `gt`, `le`, `min_length`, as pydantic has them.
    """
    texts: dict[str, Any] = {"x-allowed": allowed, "x-default": shown, "x-redone": redone}
    return Field(
        default,
        exclude_if=lambda value: value is ABSENT,
        json_schema_extra={name: text for name, text in texts.items() if text},
        **limit,
    )


@dataclass(frozen=True)
class Rule:
    """Keys that a section must have, or cannot have, where another key has a certain value.

    Attributes:
        key: the key that decides.
        values: the values for which the rule holds; empty: any.
        required: keys that must be there.
        excluded: keys that have no meaning.
        beside: what the excluded keys have no meaning beside, in words; empty: the deciding key and its values.
        absent: the rule holds where the deciding key is not there.
    """

    key: str
    values: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    beside: str = ""
    absent: bool = False

    def holds(self, data: Mapping[Any, Any]) -> bool:
        """Whether the rule is about such a section."""
        return (self.key in data) != self.absent and (not self.values or data[self.key] in self.values)

    def excess(self, data: Mapping[Any, Any]) -> str | None:
        """Say which key has no meaning; None where all have one."""
        beside = self.beside or f"{self.key} {' or '.join(self.values)}".strip()
        for name in self.excluded:
            if name in data:
                return f"the key {name!r} has no meaning beside {beside}; remove it"
        return None

    def schema(self) -> dict[str, Any]:
        """Return the rule as a part of a JSON schema."""
        condition: dict[str, Any] = {"required": [self.key]}
        if self.absent:
            condition = {"not": condition}
        if self.values:
            condition["properties"] = {self.key: {"enum": list(self.values)}}
        outcome: dict[str, Any] = {}
        if self.required:
            outcome["required"] = list(self.required)
        if self.excluded:
            outcome["propertyNames"] = {"not": {"enum": list(self.excluded)}}
        return {"if": condition, "then": outcome}


class Section(BaseModel):
    """A mapping of the config whose keys are known.

    Attributes:
        rules: which keys need which others, or exclude them.
        entry: what entries of any name are, of a section that has such beside its keys.
    """

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
    rules: ClassVar[tuple[Rule, ...]] = ()
    entry: ClassVar[type[Section] | None] = None

    @model_validator(mode="before")
    @classmethod
    def _check_keys(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and (problem := cls.problem(data)):
            raise PydanticCustomError("keys", "{problem}", {"problem": problem})
        return data

    @classmethod
    def problem(cls, data: Mapping[Any, Any]) -> str | None:
        """Say which key is unknown, missing or without a meaning; None where all is right."""
        fields = cls.model_fields
        unknown = [] if cls.entry else [repr(name) for name in data if name not in fields]
        if unknown:
            return f"unknown key {', '.join(sorted(unknown))}; allowed: {', '.join(sorted(fields)) or 'none'}"
        rules = [rule for rule in cls.rules if rule.holds(data)]
        for rule in rules:
            if excess := rule.excess(data):
                return excess
        required = [name for name, field in fields.items() if field.is_required()]
        missing = [
            name
            for name in dict.fromkeys([*required, *(name for rule in rules for name in rule.required)])
            if name not in data
        ]
        if not missing:
            return None
        meanings = "; ".join(f"{name}: {_expected(fields[name])}" for name in missing)
        keys = f"key {missing[0]!r} is" if len(missing) == 1 else f"keys {', '.join(map(repr, missing))} are"
        return f"the {keys} missing; {meanings}"

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Add the rules to the JSON schema."""
        schema = handler.resolve_ref_schema(handler(core_schema))
        if cls.rules:
            schema["allOf"] = [rule.schema() for rule in cls.rules]
        return schema


def notes(field: FieldInfo) -> Mapping[str, Any]:
    """What `key` noted of a field for the README."""
    return field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}


def pattern_of(field: FieldInfo) -> str | None:
    """The pattern that texts of a field must match, if any."""
    return next((part.pattern for part in field.metadata if hasattr(part, "pattern")), None)


def _expected(field: FieldInfo) -> str:
    """Say what a missing key should be."""
    if get_origin(field.annotation) is Literal:
        return f"one of {', '.join(map(str, get_args(field.annotation)))}"
    text = notes(field).get("x-allowed") or PATTERNS.get(pattern_of(field) or "") or field.description or ""
    condition = notes(field).get("x-default", "")
    return " ".join(text.split()) + f" ({condition})" * condition.startswith("required")


def section_of(annotation: Any) -> type[Section] | None:
    """Return the section that a type is, or holds as its items or values."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((section for part in get_args(annotation) if (section := section_of(part))), None)


def field_at(section: type[Section], location: Sequence[int | str]) -> FieldInfo | None:
    """Return the field that is at a place of the config; None for an entry of a list or of named entries."""
    inside: type[Section] | None = section
    field: FieldInfo | None = None
    for part in location:
        named = field is not None and get_origin(field.annotation) in (dict, list)
        if named or inside is None:
            field = None
        elif part in inside.model_fields:
            field = inside.model_fields[str(part)]
            inside = section_of(field.annotation)
        else:
            field, inside = None, inside.entry
    return field


def nullable(field: FieldInfo) -> bool:
    """Whether null is a value of the key."""
    return NoneType in get_args(field.annotation)


_LIMITS = {"ge": "from", "gt": "above", "le": "up to", "lt": "below"}


def limits(source: FieldInfo | Mapping[str, Any]) -> str:
    """Limits of a number in words, of a field or of the context of pydantic's error; empty where it has none."""
    if isinstance(source, FieldInfo):
        source = {name: getattr(one, name) for one in source.metadata for name in _LIMITS if hasattr(one, name)}
    return ", ".join(f"{word} {_plain(source[name])}" for name, word in _LIMITS.items() if name in source)


def _plain(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:g}"
