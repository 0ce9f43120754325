"""Calibration questions and texts, and the held-out questions that a checkpoint is checked with."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rllm_serving.datasets.micro_questions import SUITES, generate
from rllm_serving.models.checkpoints import ModelError
from rllm_serving.models.micro_solutions import END_THINK, THINK

CHECKED = 32
"""Held-out questions for checking a quantized model."""
MIN_CHECKED = 8
"""With fewer held-out questions a checkpoint is not checked."""
KINDS = ("reasoning", "plain")
Row = Mapping[str, Any]


def micro_questions(samples: int, seed: int) -> tuple[list[Row], list[Row]]:
    """Return generated questions for calibration (train split) and checks (test split), equally many of every suite.

    The checks have another seed than the study, so that they mostly avoid its test questions.
    """

    def draw(count: int, number: int, split: Any) -> list[Row]:
        each = [count // len(SUITES) + (index < count % len(SUITES)) for index in range(len(SUITES))]
        return [
            {"question": q.question, "choices": q.choices, "gold": q.gold, "kind": q.kind}
            for suite, size in zip(SUITES, each, strict=True)
            for q in generate(suite, size, number, split)
        ]

    return draw(samples, seed, "train"), draw(CHECKED, seed + 1, "test")


def dataset_questions(key: str, rows: Sequence[Row], samples: int, seed: int) -> tuple[list[Row], list[Row]]:
    """Return questions of a dataset in a seeded order: the first `samples` for calibration, the next for checks.

    Raises:
        ModelError: naming `key`, when the dataset has too few for both.
    """
    if len(rows) < samples + MIN_CHECKED:
        raise ModelError(
            f"{key}.dataset: {len(rows)} questions are too few for {samples} to calibrate with and {MIN_CHECKED} to "
            "check; "
            f"lower {key}.n_samples or name a larger dataset"
        )
    order = random.Random(seed).sample(list(rows), min(len(rows), samples + CHECKED))
    return order[:samples], order[samples:]


def plain_text(prompt: str, question: Row) -> str:
    """Return a prompt with its answer and no working; thinking that the prompt has opened is closed at once."""
    closed = f"\n{END_THINK}\n" if prompt.rstrip().endswith(THINK) else ""
    return rf"{prompt}{closed}The answer is \boxed{{{question['gold']}}}."


def texts(
    kind: str, prompts: Sequence[str], questions: Sequence[Row], complete: Callable[[Sequence[str]], list[str]]
) -> list[str]:
    """Return calibration texts: prompts continued by the model itself ("reasoning") or by the right answer ("plain").

    Args:
        kind: "reasoning" or "plain".
        prompts: whole prompts as they are served, chat template included.
        questions: their questions, with `gold`.
        complete: samples the model's continuations.
    """
    if kind == "plain":
        return [plain_text(prompt, question) for prompt, question in zip(prompts, questions, strict=True)]
    return [prompt + output for prompt, output in zip(prompts, complete(prompts), strict=True)]


def digest(rows: Sequence[str]) -> str:
    """Return the SHA-256 of texts in their order."""
    return hashlib.sha256("\0".join(rows).encode()).hexdigest()
