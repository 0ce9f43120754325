"""What an event of a streamed chat completion holds, as OpenAI's API and the engines have it."""

from __future__ import annotations

from typing import Any

import msgspec


class Delta(msgspec.Struct):
    """Texts that a chunk adds."""

    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None


class Choice(msgspec.Struct):
    """An answer's part of a chunk; there is one answer a request."""

    delta: Delta | None = None
    finish_reason: str | None = None
    token_ids: list[int] | None = None


class UsageDetails(msgspec.Struct):
    """A part of the usage."""

    reasoning_tokens: int | None = None


class Usage(msgspec.Struct):
    """Tokens as an engine counts them."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    completion_tokens_details: UsageDetails | None = None
    reasoning_tokens: int | None = None


class Chunk(msgspec.Struct):
    """An event of a streamed completion."""

    choices: list[Choice] | None = None
    usage: Usage | None = None
    error: Any = None


def texts_of(choices: list[Choice]) -> tuple[str, str, str | None]:
    """Return thinking, answer and finish reason that came with a chunk."""
    thought = said = ""
    finish = None
    for choice in choices:
        if choice.delta is not None:
            thought += choice.delta.reasoning or choice.delta.reasoning_content or ""
            said += choice.delta.content or ""
        finish = choice.finish_reason or finish
    return thought, said, finish
