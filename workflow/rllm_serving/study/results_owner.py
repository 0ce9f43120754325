"""Whose `results/` is: a folder keeps one study, which a file in it names, so that no study goes over another's.

Jobs that make something else (an estimate, environments, models, question sets) may be called for any study.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

from .config_errors import ConfigError

MARKER = Path("results/study.json")
HARMLESS = ("plan", "prepare")
"""Targets that write nothing under results/."""


def check_results(study: str, targets: Callable[[], Iterable[str]]) -> None:
    """Check that the results in this folder, if there are any, are of this study.

    Args:
        study: the config's `study`.
        targets: finds out what is asked for; nothing: the whole study.

    Raises:
        ConfigError: one line that says whose they are, and how to keep both studies or to go on with one.
    """
    owner = _owner()
    if owner in (None, study):
        return
    asked = list(targets())
    if not asked or not all(target in HARMLESS or target.startswith(("resources/", "logs/")) for target in asked):
        raise ConfigError(
            f"study: '{study}' is asked for, results/ holds the study '{owner}': keep both with --directory FOLDER, "
            f"or move results/ away (or, if '{owner}' was only renamed, write the new name into {MARKER})"
        )


def mark_results(study: str) -> None:
    """Write down that the results in this folder are of this study."""
    if _owner() == study:
        return
    MARKER.parent.mkdir(parents=True, exist_ok=True)
    MARKER.write_text(json.dumps({"study": study}) + "\n", encoding="utf-8")


def _owner() -> str | None:
    """The study that the results in this folder are of; None where nobody has said so."""
    try:
        record = json.loads(MARKER.read_text(encoding="utf-8-sig"))
        return str(record["study"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(
            f'{MARKER}: does not say which study these results are of; write {{"study": NAME}} into it'
        ) from None
