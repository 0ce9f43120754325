"""What the micro models learn to write: the reasoning model thinks at length, the plain one answers soon."""

from __future__ import annotations

import random
import re

from rllm_serving.datasets.micro_facts import BY_QUESTION
from rllm_serving.datasets.micro_questions import LETTERS, Question

THINK, END_THINK = "<think>", "</think>"
# The reasoning model repeats its working with this probability after every pass: a geometric tail.
CHECK_AGAIN = 0.35
MAX_CHECKS = 6
# Steps of working that the plain model shows at most; it guesses what is left.
PLAIN_STEPS = 3


def reasoning_text(question: Question, rng: random.Random) -> str:
    """Return the reasoning model's output for a question: thinking (opened by the prompt), then answer.

    The whole working is repeated with probability CHECK_AGAIN after every pass, MAX_CHECKS times at most.
    """
    passes = 1
    while passes <= MAX_CHECKS and rng.random() < CHECK_AGAIN:
        passes += 1
    thinking = " Check:".join([f"{_work(question)} ."] * passes)
    return f"So{thinking}\n{END_THINK}\n{_answer(question)}"


def plain_text(question: Question) -> str:
    """Return the plain model's output for a question: at most PLAIN_STEPS steps of working, then answer."""
    return f"So{_work(question, PLAIN_STEPS)} . {_answer(question)}"


def boxed(text: str) -> str | None:
    r"""Return the content of the last `\boxed{}` after the thinking, None where there is none."""
    boxes = re.findall(r"\\boxed\{([^{}]*)\}", text.rpartition(END_THINK)[2])
    return boxes[-1] if boxes else None


def _answer(question: Question) -> str:
    return rf"The answer is \boxed{{{question.gold}}}."


def _work(question: Question, max_steps: int | None = None) -> str:
    """Return the working of at most `max_steps` steps; it begins with a space, so tokens match the question's.

    A fact is stated first, then its options are listed up to the right one: in so short a training the models
    do not learn to find the letter of a name directly.
    """
    if question.choices:
        fact = BY_QUESTION[question.question]
        looked_at = LETTERS[: LETTERS.index(question.gold) + 1]
        options = [f" ({letter}) {choice}" for letter, choice in zip(looked_at, question.choices, strict=False)]
        return f" {fact.statement} :{''.join(options)}"
    definitions = re.findall(r" (\w)=(?:(\d+)|(\w[+-]\d+))", question.question)
    value = 0
    steps = []
    for name, start, change in definitions[:max_steps]:
        value = int(start) if start else value + int(change[1:])
        steps.append(f" {name}={start}" if start else f" {name}={change}={value}")
    return "".join(steps)
