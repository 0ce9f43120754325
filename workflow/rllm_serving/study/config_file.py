"""Configs as their authors wrote them: what YAML hides, or turns into something else, is refused with its line.

Snakemake has read the files already, or does so after `command_line.check_command_line`; here the texts are looked at.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml

from .config import Config
from .config_base import Section
from .config_errors import ConfigError

_MERGE = "tag:yaml.org,2002:merge"
_OCTAL = re.compile(r"[-+]?0[0-7_]+")
_LONGEST_NUMBER = 40
_MEANINGS = {"bool": "a truth value", "int": "a number", "float": "a number", "timestamp": "a date", "null": "nothing"}
"""Last part of a YAML tag -> what it says."""


def check_file(path: Path) -> None:
    """Check the text of a config file.

    Raises:
        ConfigError: one line with the file and, where it has one, the line of the first mistake: no UTF-8, no YAML, a
            key given twice, a value that YAML takes for something else.
    """
    try:
        text = _read(path)
        json_text = _is_json(text)
        # JSON may be indented with tabs, and its numbers are what they look like.
        tree = _compose(text.expandtabs() if json_text else text)
        _Check(scalars=not json_text).value(tree, [Config], "")
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply") from None


def _read(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot be read ({error.strerror}); give an existing file") from None
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ConfigError("line 1: the text is UTF-16; save it as UTF-8")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"line {line}: the byte {content[error.start]:#04x} is no UTF-8; save it as UTF-8") from None


def _is_json(text: str) -> bool:
    """Whether Snakemake reads a text as JSON. Raises ConfigError for its constants that are not finite."""
    try:
        json.loads(text, parse_constant=_refuse)
    except ValueError:
        return False
    return True


def _refuse(constant: str) -> None:
    raise ConfigError(f"{constant} is not a finite number")


def _compose(text: str) -> yaml.Node:
    """Return the tree of a YAML text, its values not yet made.

    Raises:
        ConfigError: for what is no single mapping.
    """
    try:
        documents = yaml.compose_all(text, Loader=yaml.SafeLoader)
        first, second = next(documents, None), next(documents, None)
    except yaml.MarkedYAMLError as error:
        raise ConfigError(_not_yaml(error)) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"line {line}: not YAML: the character {chr(error.character)!r} is not allowed") from None
    if second is not None:
        line = text.count("\n", 0, second.start_mark.index)
        raise ConfigError(f"line {line}: a second document; one file is one study: remove it, or the '---'")
    if first is None:
        raise ConfigError("the file is empty; a config is a mapping (key: value)")
    if not isinstance(first, yaml.MappingNode):
        raise ConfigError(f"line {_line(first)}: no mapping (key: value), which a config is")
    return first


def _not_yaml(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    place = f"line {mark.line + 1}: " if mark else ""
    problem = (error.problem or error.context or "").replace("character '\\t'", "a tab")
    problem = problem.replace("'<stream end>'", "the end")
    if error.context_mark and error.context and error.problem:
        problem += f" ({error.context} from line {error.context_mark.line + 1} on)"
    advice = "; indent with blanks" if "a tab" in problem else ""
    return " ".join(f"{place}not YAML: {problem}{advice}".split())


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


class _Check:
    """Walks through the tree of a config and raises ConfigError for the first value that YAML takes for another.

    Without `scalars`, numbers and words are what they look like.
    """

    def __init__(self, scalars: bool) -> None:
        self._scalars = scalars
        self._open: set[int] = set()
        self._done: set[int] = set()

    def value(self, node: yaml.Node, kinds: Sequence[Any], key: str) -> None:
        """Check a value and all within it; `kinds` are the types that its key may have, none where it is unknown."""
        if id(node) in self._open:
            raise ConfigError(f"line {_line(node)}: {key}: is an alias of what it stands in")
        if id(node) in self._done:
            return
        self._open.add(id(node))
        if isinstance(node, yaml.MappingNode):
            self._mapping(node, kinds, key)
        elif isinstance(node, yaml.SequenceNode):
            for place, item in enumerate(node.value):
                self.value(item, within(kinds, place), f"{key}.{place}")
        elif self._scalars and (problem := scalar_problem(node, kinds)):
            raise ConfigError(f"line {_line(node)}: {key}: {problem}")
        self._open.remove(id(node))
        self._done.add(id(node))

    def _mapping(self, node: yaml.MappingNode, kinds: Sequence[Any], key: str) -> None:
        seen: set[str] = set()
        for name, value in node.value:
            if name.tag == _MERGE:
                for merged in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    self.value(merged, kinds, key)
                continue
            if not isinstance(name, yaml.ScalarNode):
                raise ConfigError(f"line {_line(name)}: a key that is no text; keys are names")
            if meaning := _MEANINGS.get(_tag(name)):
                raise ConfigError(
                    f"line {_line(name)}: the key {name.value} is {meaning} to YAML; put it in quotes: '{name.value}'"
                )
            if name.value in seen:
                raise ConfigError(f"line {_line(name)}: the key '{name.value}' is given twice; names must be unique")
            seen.add(name.value)
            self.value(value, within(kinds, name.value), f"{key}.{name.value}".lstrip("."))


def _tag(node: yaml.Node) -> str:
    return str(node.tag).rpartition(":")[2]


def scalar_problem(node: yaml.Node, kinds: Sequence[Any]) -> str | None:
    """Say what is wrong with a scalar that YAML takes for something else than its author; None where all is right.

    Args:
        node: the scalar.
        kinds: types that its key may have; none where it is unknown.
    """
    text, tag = str(node.value), _tag(node)
    is_plain = getattr(node, "style", None) is None
    if tag == "str" and is_plain and kinds and not any(map(is_text, kinds)):
        return _text_problem(text)
    quoted = f"put it in quotes where text is meant: '{text}'"
    if tag == "timestamp":
        return f"{text} is a date to YAML; {quoted}"
    if tag in ("int", "float"):
        if len(text) > _LONGEST_NUMBER:
            return f"a number of {len(text)} characters is too long"
        if ":" in text:
            return f"{text} is {yaml.safe_load(text):g} to YAML, a number to base 60; {quoted}"
        if tag == "int" and _OCTAL.fullmatch(text):
            return f"{text} is {yaml.safe_load(text)} to YAML, an octal number; write it without the 0, or {quoted}"
        if tag == "float" and not math.isfinite(yaml.safe_load(text)):
            return f"{text} is not a finite number"
    if tag == "bool" and kinds and bool not in kinds:
        return f"{text} is a truth value to YAML; {quoted}"
    if tag in ("int", "float") and kinds and all(map(is_text, kinds)):
        return f"{text} is a number to YAML; {quoted}"
    return None


def _text_problem(text: str) -> str | None:
    """Say what is wrong with a text where none is meant, if Python would take it for a number."""
    try:
        number = float(text)
    except ValueError:
        return None
    return (
        f"{text} is text to YAML; write it as {number:g}" if math.isfinite(number) else f"{text} is not a finite number"
    )


def is_text(kind: Any) -> bool:
    """Whether a type is text: any, or certain words."""
    return kind is str or get_origin(kind) is Literal


def within(kinds: Iterable[Any], part: int | str) -> list[Any]:
    """Return the types that an entry may have, by its key or place, of a mapping or list of one of these types."""
    found: list[Any] = []
    for kind in kinds:
        if get_origin(kind) is list and isinstance(part, int):
            found.append(get_args(kind)[0])
        elif get_origin(kind) is dict:
            found.append(get_args(kind)[1])
        elif isinstance(kind, type) and issubclass(kind, Section):
            field = kind.model_fields.get(str(part))
            found.append(field.annotation if field else kind.entry)
    return [alternative for kind in found for alternative in _alternatives(kind)]


def _alternatives(kind: Any) -> Iterator[Any]:
    """The types of a union, without what is noted of each; none for None."""
    if get_origin(kind) is Annotated:
        yield from _alternatives(get_args(kind)[0])
    elif get_origin(kind) in (Union, UnionType):
        for part in get_args(kind):
            yield from _alternatives(part)
    elif kind is not None:
        yield kind
