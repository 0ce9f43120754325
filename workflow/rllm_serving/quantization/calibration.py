"""The questions and texts that a quantization looks at, and those that it is checked with: kept apart."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rllm_serving.datasets.micro_questions import SUITES, generate
from rllm_serving.models.checkpoints import ModelError
from rllm_serving.models.micro_solutions import END_THINK, THINK

CHECKED = 32
"""Held-out questions that a quantized model is asked."""
FEWEST = 8
"""Fewer held-out questions would say nothing."""
KINDS = ("reasoning", "plain")
Row = Mapping[str, Any]


def micro_questions(samples: int, seed: int) -> tuple[list[Row], list[Row]]:
    """Generated questions for calibrating (train split) and for checking (test split), all suites alike.

    The seed of the check is another one than the study's, whose own test questions it thus mostly avoids.
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
    """Questions of a dataset in a seeded order: the first `samples` for calibrating, the next for checking.

    Raises ModelError, naming `key`, when the dataset has too few for both.
    """
    if len(rows) < samples + FEWEST:
        raise ModelError(
            f"{key}.dataset: {len(rows)} questions are too few for {samples} to calibrate with and {FEWEST} to check; "
            f"lower {key}.samples or name a larger dataset"
        )
    order = random.Random(seed).sample(list(rows), min(len(rows), samples + CHECKED))
    return order[:samples], order[samples:]


def plain_text(prompt: str, question: Row) -> str:
    """A prompt with its answer and no working; thinking that the prompt has opened is closed at once."""
    closed = f"\n{END_THINK}\n" if prompt.rstrip().endswith(THINK) else ""
    return rf"{prompt}{closed}The answer is \boxed{{{question['gold']}}}."


def texts(
    kind: str, prompts: Sequence[str], questions: Sequence[Row], complete: Callable[[Sequence[str]], list[str]]
) -> list[str]:
    """Calibration texts: prompts with what the model itself writes ("reasoning") or with the answer alone ("plain").

    prompts: whole prompts as they are served, chat template included; complete: samples the model's continuations.
    """
    if kind == "plain":
        return [plain_text(prompt, question) for prompt, question in zip(prompts, questions, strict=True)]
    return [prompt + output for prompt, output in zip(prompts, complete(prompts), strict=True)]


def digest(rows: Sequence[str]) -> str:
    """SHA-256 of texts in their order."""
    return hashlib.sha256("\0".join(rows).encode()).hexdigest()
