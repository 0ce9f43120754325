"""What is sent: the request body of each question of a point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import prompts
from .runs import Point, Run, request_seed


def asked(run: Run, point: Point, questions: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], int]]:
    """The question and the sampling seed of each request of a point, in the order that they are sent."""
    return [
        (question, request_seed(run.seed, point.dataset, question["question_id"], point.repeat, sample))
        for question in questions[: point.questions]
        for sample in range(point.samples)
    ]


def bodies(run: Run, point: Point, questions: Sequence[Mapping[str, Any]], template: Path) -> list[dict[str, Any]]:
    """Bodies of /v1/chat/completions, one a request of the point, in the order of `asked`.

    Streamed, with running usage and, where the engine has them, token ids; a seed a request. Under shortest-prompt
    scheduling a request's priority is the length of its prompt in characters, lower first.
    """
    found = []
    for question, seed in asked(run, point, questions):
        text = prompts.render(template, question["question"], question["choices"])
        body = {
            "model": run.model,
            "messages": [{"role": "user", "content": text}],
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
            "return_token_ids": True,
            "max_tokens": point.budget,
            "seed": seed,
            **run.sampling,
        }
        if run.options.scheduling == "shortest-prompt":
            body["priority"] = len(text)
        found.append(body)
    return found
