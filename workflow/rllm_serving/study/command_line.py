"""What a call of Snakemake says of the config: files that it is to read, and values of `--config`.

Snakemake reads config files before any rule is there to check them, and tells neither file nor line of one that is no
YAML. So the profile that comes with the workflow calls `check_command_line` before that.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from .config import Config
from .config_errors import ConfigError
from .config_file import check_file, is_text, scalar_problem, within

DEFAULT = Path("config/config.yaml")
"""The default config, in the folder that Snakemake works in; where there is none, beside the workflow."""
_OWN = Path(__file__).parents[3] / DEFAULT
_SUFFIXES = (".yaml", ".yml", ".json")
_OUTPUTS = ("results", "resources", "logs")
_ADVICE = "put targets before it, or after a '--'"


def check_command_line(arguments: Sequence[str]) -> None:
    """Check the config files that a call of Snakemake reads, and that no target is taken for one.

    Raises:
        ConfigError: one line with the file, and the line in it, or the word that is misplaced.
    """
    for word in _values(arguments, "--config", "-C"):
        if "=" not in word:
            raise ConfigError(f"--config: {word!r} is no KEY=VALUE, as all words after --config are; {_ADVICE}")
    files = [Path(word) for word in _values(arguments, "--configfile", "--configfiles")]
    for place, file in enumerate(files):
        if place and (file.suffix not in _SUFFIXES or file.parts[:1] in [(folder,) for folder in _OUTPUTS]):
            _check_as_target(file)
        else:
            check_file(file)
    if not files:
        default = working_folder(arguments) / DEFAULT
        default = default if default.is_file() else _OWN
        if default.is_file():
            check_file(default)


def working_folder(arguments: Sequence[str]) -> Path:
    """The folder that a call of Snakemake works in."""
    return Path(*_values(arguments, "--directory", "-d")[:1])


def _check_as_target(word: Path) -> None:
    """Check a word after the first config file that is not called like one."""
    try:
        check_file(word)
    except ConfigError:
        raise ConfigError(
            f"--configfile: Snakemake takes '{word}' for a config file, as all words after --configfile; {_ADVICE}"
        ) from None


def _values(arguments: Sequence[str], *names: str) -> list[str]:
    """Return the words that follow an option, up to the next one; where it is given twice, the last time counts."""
    values: list[str] = []
    taking = False
    for word in arguments:
        if word == "--":
            break
        if word.startswith("-"):
            name, equals, value = word.partition("=")
            taking = name in names and not equals
            if name in names:
                values = [value] if equals else []
        elif taking:
            values.append(word)
    return values


def typed_values(entries: Sequence[str]) -> dict[str, Any]:
    """Return the values of `--config KEY=VALUE`, each with the type of its key, also within mappings and lists.

    Snakemake itself takes what looks like a number for one, and everything within a mapping for text.

    Raises:
        ConfigError: for a value that is no YAML, or that YAML takes for something else.
    """
    values: dict[str, Any] = {}
    for entry in entries:
        key, _, text = entry.partition("=")
        try:
            # Snakemake takes quotes around a value away.
            node = yaml.compose(text.strip("'\""), Loader=yaml.SafeLoader)
        except yaml.YAMLError:
            raise ConfigError(f"--config {key}: {text!r} is no YAML") from None
        values[key] = None if node is None else _typed(node, within([Config], key), key)
    return values


def _typed(node: yaml.Node, kinds: Sequence[Any], key: str) -> Any:
    if isinstance(node, yaml.MappingNode):
        return {
            name.value: _typed(value, within(kinds, name.value), f"{key}.{name.value}") for name, value in node.value
        }
    if isinstance(node, yaml.SequenceNode):
        return [_typed(item, within(kinds, place), f"{key}.{place}") for place, item in enumerate(node.value)]
    if node.tag.endswith(":str") or (kinds and all(map(is_text, kinds))):
        return node.value
    if problem := scalar_problem(node, kinds):
        raise ConfigError(f"--config {key}: {problem}")
    return yaml.safe_load(node.value)
