"""What a study says about its rows that claims select by: pairs, subjects, setups, the order of loads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..study.subjects import Subject

USED_BESIDE = ("draft_model", "speculative_tokens")
"""Options that a setup may set beside those that it is chosen by: they say how, not what."""


@dataclass(frozen=True)
class StudyFacts:
    """What claims select rows by; plain data, so that it can be a parameter of a rule.

    Attributes:
        pairs: of each pair: role -> model.
        engines: of the study.
        subjects: of each dataset.
        setups: of each setup the options that it sets.
        methods: of each quantization its method.
        loads: of each experiment the names of its loads, in the config's order.
    """

    pairs: Mapping[str, Mapping[str, str]]
    engines: list[str]
    subjects: Mapping[str, Subject]
    setups: Mapping[str, Mapping[str, Any]]
    methods: Mapping[str, str]
    loads: Mapping[str, list[str]]

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> StudyFacts:
        """Return what `plain` made."""
        return cls(**{**plain, "subjects": {name: Subject(*subject) for name, subject in plain["subjects"].items()}})

    def plain(self) -> dict[str, Any]:
        """Return the same as mappings, lists, texts and numbers."""
        found = asdict(self)
        return {**found, "subjects": {name: list(subject) for name, subject in self.subjects.items()}}

    def candidates(self, wanted: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Return (quantization, setup) of the servers that a hypothesis's `candidates` mean."""
        if "quantization" in wanted:
            named = [name for name, method in self.methods.items() if method in wanted["quantization"]]
            return [(name, "baseline") for name in named]
        return [("bf16", name) for name, options in self.setups.items() if _matches(options, wanted["setup"])]


def _matches(options: Mapping[str, Any], wanted: Mapping[str, list[Any]]) -> bool:
    """Whether a setup sets just the wanted options, each to one of the values."""
    own = {name: value for name, value in options.items() if name not in USED_BESIDE}
    return own.keys() == wanted.keys() and all(own[name] in values for name, values in wanted.items())
