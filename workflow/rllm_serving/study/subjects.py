"""What datasets are about and how hard they are: claims compare mathematics with knowledge, easy with hard sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Subject(NamedTuple):
    """Of a dataset: what it is about, and its difficulty among datasets of that subject (None: not ranked)."""

    name: str
    level: int | None


BY_KIND = {
    "arith-easy": Subject("mathematics", 1),
    "arith-medium": Subject("mathematics", 2),
    "arith-hard": Subject("mathematics", 3),
    "facts-mcq": Subject("knowledge", None),
    "gsm8k": Subject("mathematics", 1),
    "math500": Subject("mathematics", 2),
    "aime2024": Subject("mathematics", 3),
    "gpqa": Subject("knowledge", None),
    "supergpqa": Subject("knowledge", None),
    "humaneval": Subject("code", None),
}
"""Suite or format of a dataset -> its subject."""


def subject_of(dataset: Mapping[str, Any]) -> Subject:
    """Return the subject of an entry of the config's `datasets`."""
    return BY_KIND[dataset.get("suite") or dataset["format"]]
