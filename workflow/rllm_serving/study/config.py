"""Checks of a config as a user wrote it: every mistake is one line that names the key and what is allowed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import ValidationError, best_match

from ..errors import UserError


class ConfigError(UserError):
    """A config that cannot be run; the message is one line: the key, what is wrong, what is allowed."""


class _NoDuplicates(yaml.SafeLoader):
    """A YAML loader that refuses a key given twice, which YAML otherwise resolves in silence to the last one."""


def _mapping(loader: _NoDuplicates, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[str] = set()
    for key_node, _ in node.value:
        key = str(key_node.value)
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
        yaml.load(path.read_text(encoding="utf-8"), Loader=_NoDuplicates)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from None


# JSON schema takes 3.0 for an integer; as a batch size or a number of repeats it is none.
_Validator = validators.extend(
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int),
)


def check_schema(config: Mapping[str, Any], schema: Path) -> None:
    """Raise ConfigError with one line for the most telling violation of the JSON schema at `schema`."""
    validator = _Validator(yaml.safe_load(schema.read_text(encoding="utf-8")))
    error = best_match(validator.iter_errors(config))
    if error is not None:
        raise ConfigError(_one_line(error))


def _one_line(error: ValidationError) -> str:
    key = ".".join(str(part) for part in error.absolute_path) or "the config"
    schema = error.schema if isinstance(error.schema, Mapping) else {}
    value, wanted, hint = _shown(error.instance), error.validator_value, schema.get("description")
    match error.validator:
        case "not":
            return f"{key}: the key {value} has no meaning {hint}; remove it"
        case "additionalProperties":
            known = schema.get("properties", {})
            unknown = ", ".join(sorted(repr(name) for name in error.instance if name not in known))
            return f"{key}: unknown key {unknown}; allowed: {', '.join(sorted(known)) or 'none'}"
        case "required":
            missing = [name for name in wanted if name not in error.instance]
            options = schema.get("properties", {}).get(missing[0], {}).get("enum")
            hint = hint or (options and f"{missing[0]} is one of {', '.join(options)}")
            return f"{key}: the key {', '.join(map(repr, missing))} is missing{f'; {hint}' if hint else ''}"
        case "enum" | "const":
            allowed = ", ".join(map(str, wanted)) if error.validator == "enum" else f"{wanted} {hint or ''}".strip()
            return f"{key}: {value} is not one of {allowed}"
        case "pattern":
            return f"{key}: {value} is not valid; allowed: {hint or wanted}"
        case "minItems" | "minProperties" | "minLength":
            return f"{key}: must not be empty"
        case "uniqueItems":
            return f"{key}: {value} has the same entry twice; entries must be unique"
        case "type":
            return f"{key}: {value} is not {' or '.join(_TYPES[name] for name in _as_list(wanted))}"
        case "minimum" | "exclusiveMinimum" | "maximum" | "exclusiveMaximum":
            limits = ", ".join(f"{word} {schema[name]}" for name, word in _LIMITS.items() if name in schema)
            return f"{key}: {value} is out of range; allowed: {limits}"
    return f"{key}: {error.message}"


_TYPES = {
    "object": "a mapping (key: value)",
    "array": "a list",
    "string": "text (put a number in quotes)",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}
_LIMITS = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "up to", "exclusiveMaximum": "below"}


def _as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _shown(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def resolve_names(key: str, wanted: str | list[str], known: Mapping[str, Any] | list[str]) -> list[str]:
    """Names of a reference in the config: all of `known` for "all", else those listed, each of which must be known.

    Raises ConfigError naming `key` and what is allowed.
    """
    if wanted == "all":
        if not known:
            raise ConfigError(f"{key}: there is none to choose from; define one")
        return list(known)
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ConfigError(f"{key}: unknown {', '.join(map(repr, unknown))}; allowed: {', '.join(known)}")
    return list(wanted)


def config_paths(config: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
    """Every local path that the config names, with its key."""
    for section in ("models", "datasets"):
        for name, entry in config[section].items():
            if entry["source"] == "path":
                yield f"{section}.{name}.path", Path(entry["path"]).expanduser()
    for name, folder in config.get("local_paths", {}).items():
        yield f"local_paths.{name}", Path(folder).expanduser()
    for name, entry in config.get("traces", {}).items():
        yield f"traces.{name}.path", Path(entry["path"]).expanduser()
    for name, entry in config.get("quantizations", {}).items():
        for model, checkpoint in entry.get("checkpoints", {}).items():
            if "path" in checkpoint:
                yield f"quantizations.{name}.checkpoints.{model}.path", Path(checkpoint["path"]).expanduser()
