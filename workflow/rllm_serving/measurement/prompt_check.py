"""Whether a server makes the tokens of a prompt that its model's own files make of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..errors import UserError
from ..models.token_probe import CHAT, digest
from ..serving.server import Server


class PromptError(UserError):
    """A server that makes other tokens of a question than its model's files do."""


def check_prompt(server: Server, name: str, model: Mapping[str, Any], thinking: bool | None) -> int:
    """Let a server encode a question, and compare the tokens with those that `check_tokenizer` found.

    What engines decide only when they start is seen here: SGLang takes a template of its own for a model whose path has
    certain words, whatever the model's own is.

    Args:
        server: a server that is ready.
        name: what it serves the model as.
        model: model.json of what it serves, with `tokenizer`.
        thinking: the chat template's enable_thinking; None: not given.

    Returns:
        Number of tokens of the question's prompt.

    Raises:
        PromptError: when they differ.
    """
    body: dict[str, Any] = {"model": name, "messages": [{"role": "user", "content": CHAT}]}
    if thinking is not None:
        body["chat_template_kwargs"] = {"enable_thinking": thinking}
    tokens: list[int] = json.loads(server.post("/tokenize", body))["tokens"]
    expected = model["tokenizer"]
    if digest(tokens) != expected["chat_sha256"]:
        raise PromptError(
            f"the server for '{name}' makes {len(tokens)} tokens of a question, but the model's own tokenizer and "
            f"chat template make {expected['chat_tokens']}, or other ones. Which template it "
            f"took is in its log {server.log} (SGLang goes by words in the path: move the study if one fits by chance)"
        )
    return len(tokens)
