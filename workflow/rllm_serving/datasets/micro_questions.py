"""Question suites of the micro study: generated, seeded, with train and test questions kept apart."""

from __future__ import annotations

import hashlib
import random
import string
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from rllm_serving.datasets.micro_facts import FACTS, VALUES

Split = Literal["train", "test"]

# Variables of an arithmetic question, from - to.
VARIABLES = {"arith-easy": (2, 3), "arith-medium": (5, 7), "arith-hard": (12, 18)}
SUITES = (*VARIABLES, "facts-mcq")
LETTERS = "ABCD"
# Values stay two-digit and changes one-digit, so that a step is always of the same form.
LOWEST, HIGHEST = 10, 99
# Small changes and sums are the most frequent. With all changes alike, either digit alone says nothing about
# the last digit of the result, and a model does not find out in the time that it has.
CHANGES = [sign * size for size in range(1, 10) for sign in (1, -1)]
WEIGHTS = [abs(change) ** -1.5 * (2 if change > 0 else 1) for change in CHANGES]
# One question in this many, by the hash of its text, belongs to the test split.
TEST_ONE_IN = 8
# A suite counts as exhausted after so many draws without a new question.
MAX_FAILED_DRAWS = 1000


@dataclass(frozen=True)
class Question:
    """A question as in the datasets' files: `gold` is the number, or the letter of the right choice.

    `kind` is "number" or "choice"; `choices` is empty for numbers; `steps` is the number of variables
    of an arithmetic question and None for a fact.
    """

    question_id: str
    question: str
    choices: tuple[str, ...]
    gold: str
    kind: str
    domain: str
    difficulty: str
    steps: int | None


def generate(suite: str, count: int, seed: int, split: Split) -> list[Question]:
    """Return `count` different questions of a suite, the same for the same arguments.

    The split of a question follows from the hash of its text and options alone, so train and test share
    no question whatever the seeds. Raises ValueError for an unknown suite or split, and where the suite
    does not hold `count` different questions.
    """
    if suite not in SUITES:
        raise ValueError(f"unknown suite {suite!r}: one of {', '.join(SUITES)}")
    if split not in ("train", "test"):
        raise ValueError(f"unknown split {split!r}: train or test")
    rng = random.Random(f"{suite}/{split}/{seed}")
    draw: Callable[[], Question] = (lambda: _fact(rng)) if suite == "facts-mcq" else (lambda: _arithmetic(suite, rng))
    questions: dict[str, Question] = {}
    vain = 0
    while len(questions) < count:
        question = draw()
        before = len(questions)
        if split_of(question) == split:
            questions.setdefault(question.question_id, question)
        vain = vain + 1 if len(questions) == before else 0
        if vain > MAX_FAILED_DRAWS:
            raise ValueError(f"suite {suite!r} has hardly more than {before} {split} questions, not {count}")
    return list(questions.values())


def split_of(question: Question) -> Split:
    """Return the split that a question belongs to, from its id (the hash of text and options)."""
    return "test" if int(question.question_id.rpartition("-")[2], 16) % TEST_ONE_IN == 0 else "train"


def _identity(suite: str, text: str, choices: tuple[str, ...]) -> str:
    digest = hashlib.sha256("\n".join((text, *choices)).encode()).hexdigest()
    return f"{suite}-{digest[:12]}"


def _arithmetic(suite: str, rng: random.Random) -> Question:
    count = rng.randint(*VARIABLES[suite])
    names = string.ascii_lowercase[:count]
    value = rng.randint(LOWEST, HIGHEST)
    parts = [f"{names[0]}={value}"]
    for before, name in pairwise(names):
        change = rng.choices(CHANGES, WEIGHTS)[0]
        if not LOWEST <= value + change <= HIGHEST:
            change = -change
        value += change
        parts.append(f"{name}={before}{change:+d}")
    text = f"Let {' '.join(parts)} . What is {names[-1]}?"
    return Question(
        question_id=_identity(suite, text, ()),
        question=text,
        choices=(),
        gold=str(value),
        kind="number",
        domain="arithmetic",
        difficulty=suite.partition("-")[2],
        steps=count,
    )


def _fact(rng: random.Random) -> Question:
    fact = rng.choice(FACTS)
    others = [value for value in VALUES[fact.domain] if value != fact.value]
    options = [fact.value, *rng.sample(others, len(LETTERS) - 1)]
    rng.shuffle(options)
    choices = tuple(options)
    return Question(
        question_id=_identity("facts-mcq", fact.question, choices),
        question=fact.question,
        choices=choices,
        gold=LETTERS[choices.index(fact.value)],
        kind="choice",
        domain=fact.domain,
        difficulty="recall",
        steps=None,
    )
