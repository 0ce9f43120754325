"""What YAML hides: a key that is given twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from .config_errors import ConfigError


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
