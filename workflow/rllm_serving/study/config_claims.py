"""Claims as data: what resources/claims.yaml and the config's `claims` are made of."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from .config_base import Name, Names, Rule, Section, Text, key


class Term(Section):
    """One side of a contrast: rows of one server, all of its datasets unless narrowed."""

    role: Literal["llm", "rllm"] = "rllm"
    """which model of the pair"""
    changed: bool = False
    """whether it is served by the candidate (see `candidates`) instead of the baseline"""
    subject: Literal["all", "mathematics", "knowledge", "code"] = "all"
    """what the datasets are about"""
    level: Literal["all", "easiest", "hardest", "below-hardest"] = "all"
    """the datasets of that difficulty alone, of those of the subject; `below-hardest`: all others"""
    budget: Literal["smallest", "largest"] = "largest"
    """token budget"""
    budget_part: float = key(shown="none", gt=0, lt=1)
    """instead of `budget`: the largest one that is at most this part of the largest"""
    load: Literal["smallest", "largest"] = "largest"
    """load, by size or rate; of equal ones the last in the config"""


class Candidates(Section):
    """Servers that differ from the baseline in this alone."""

    setup: dict[Name, list[Any]] = key(allowed="mapping, the values that count for each serving option")
    """setups that set these options and no other"""
    quantization: Names = key(allowed="list of methods (see `quantizations`)")
    """weight formats made by these methods"""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("setup", excluded=("quantization",)),
        Rule("setup", required=("quantization",), absent=True),
    )


class Hypothesis(Section):
    """A part of a claim that can be computed: a sum of signed terms, and where it must lie."""

    says: Text = key(...)
    """in a sentence"""
    metric: Text = key(..., allowed="a metric with an interval, see docs/results.md")
    """of the rows that are compared: what a model says as shares and mean lengths, times and gauges by start"""
    plus: list[Term] = key(..., allowed="list of mappings", min_length=1)
    """terms that are added; shares are differences, of other metrics logs are added, which makes ratios"""
    minus: list[Term] = key([], allowed="as `plus`")
    """terms that are subtracted"""
    candidates: Candidates = key()
    """servers that terms with `changed` stand for; each is a row"""
    direction: Literal["greater", "less", "within"] = key(...)
    """where the effect lies if the hypothesis holds: above the margin, below its negative, or between both"""
    margin: float = key(...)
    """smallest effect that matters: a difference (0.03 is three points), of ratios the part (0.05 is 5 %)"""
    primary: bool = False
    """whether the claim's verdict rests on it"""
    control: bool = False
    """whether the same is asked of the LLM, and of the difference between RLLM and LLM"""
    each_dataset: bool = False
    """whether there is a row a dataset as well"""
    experiments: Names = key(allowed="list of names", shown="the claim's")
    """the first of these that the study has is used"""


class Claim(Section):
    """A statement about serving, with the hypotheses that it stands or falls with."""

    title: Text = key(...)
    """in a word or two"""
    claim: Text = key(...)
    """the statement"""
    paper: Text = key(shown="none")
    """what was published about it, as context"""
    experiments: Names = key(..., allowed="list of names")
    """the first of these that the study has is used"""
    figures: list[Name] = key([], allowed="list of names of figures")
    """figures of that experiment that show it"""
    tables: list[Name] = key([], allowed="list of names of tables")
    """tables of that experiment that hold it"""
    hypotheses: dict[Name, Hypothesis] = key(..., allowed="mapping, a hypothesis a name", min_length=1)
    """its parts, below"""
