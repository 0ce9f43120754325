"""Checks of a config as a user wrote it: every mistake is one line that names the key and what is allowed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match


class ConfigError(ValueError):
    """A config that cannot be run; the message is one line: the key, what is wrong, what is allowed."""


class _NoDuplicates(yaml.SafeLoader):
    """A YAML loader that refuses a key given twice, which YAML otherwise resolves in silence to the last one."""


def _mapping(loader: _NoDuplicates, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)  # type: ignore[no-untyped-call]
        if key in seen:
            raise ConfigError(
                f"line {key_node.start_mark.line + 1}: the key '{key}' is given twice; names must be unique"
            )
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_NoDuplicates.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def check_file(path: Path) -> None:
    """Raise ConfigError when a config file repeats a key in one mapping (two models of one name, say)."""
    try:
        yaml.load(path.read_text(), Loader=_NoDuplicates)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from None


def check_schema(config: Mapping[str, Any], schema: Path) -> None:
    """Raise ConfigError with one line for the most telling violation of the JSON schema at `schema`."""
    validator = Draft202012Validator(yaml.safe_load(schema.read_text()))
    error = best_match(validator.iter_errors(config))
    if error is not None:
        raise ConfigError(_one_line(error))


def _one_line(error: ValidationError) -> str:
    key = ".".join(str(part) for part in error.absolute_path) or "the config"
    schema = error.schema if isinstance(error.schema, Mapping) else {}
    match error.validator:
        case "additionalProperties":
            unknown = sorted(set(error.instance) - set(schema.get("properties", {})))
            allowed = ", ".join(sorted(schema.get("properties", {}))) or "none"
            return f"{key}: unknown key {', '.join(map(repr, unknown))}; allowed: {allowed}"
        case "required":
            missing = [name for name in error.validator_value if name not in error.instance]
            return f"{key}: the key {', '.join(map(repr, missing))} is missing"
        case "enum":
            return f"{key}: {error.instance!r} is not one of {', '.join(map(str, error.validator_value))}"
        case "pattern":
            return f"{key}: {error.instance!r} is not a valid name (pattern {error.validator_value})"
        case "minItems" | "minProperties":
            return f"{key}: must not be empty"
        case "uniqueItems":
            return f"{key}: {error.instance!r} has the same entry twice; entries must be unique"
        case "type":
            return f"{key}: {error.instance!r} is not of type {_types(error.validator_value)}"
        case "anyOf":
            return f"{key}: {error.instance!r} is neither 'all' nor a list of unique names"
    return f"{key}: {error.message}"


def _types(value: str | list[str]) -> str:
    return value if isinstance(value, str) else " or ".join(value)


def choose(key: str, wanted: str | list[str], known: Mapping[str, Any] | list[str]) -> list[str]:
    """Names of a reference in the config: all of `known` for "all", else those listed, each of which must be known.

    Raises ConfigError naming `key` and what is allowed.
    """
    if wanted == "all":
        return list(known)
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ConfigError(f"{key}: unknown {', '.join(map(repr, unknown))}; allowed: {', '.join(known)}")
    return list(wanted)


def walk_paths(config: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
    """Every local path that the config names, with its key."""
    for section in ("models", "datasets"):
        for name, entry in config[section].items():
            if entry["source"] == "path":
                yield f"{section}.{name}.path", Path(entry["path"]).expanduser()
