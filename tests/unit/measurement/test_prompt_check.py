"""A server's own tokens of a prompt, against those of its model's files."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from rllm_serving.measurement.prompt_check import PromptError, check_prompt
from rllm_serving.models.token_probe import CHAT, digest

MODEL = {"tokenizer": {"chat_sha256": digest([1, 2, 3]), "chat_tokens": 3}}


class Answering(SimpleNamespace):
    """A server that makes `tokens` of any prompt."""

    def post(self, path: str, body: dict[str, Any]) -> bytes:
        assert path == "/tokenize" and body["messages"] == [{"role": "user", "content": CHAT}]
        self.body = body
        return json.dumps({"tokens": self.tokens, "count": len(self.tokens)}).encode()


@pytest.mark.parametrize("thinking", [None, True, False])
def test_the_same_tokens_are_counted(thinking: bool | None) -> None:
    server: Any = Answering(tokens=[1, 2, 3], log="server.log")
    assert check_prompt(server, "m", MODEL, thinking) == 3
    variables = None if thinking is None else {"enable_thinking": thinking}
    assert server.body.get("chat_template_kwargs") == variables and server.body["model"] == "m"


@pytest.mark.parametrize("tokens", [[1, 2, 4], [1, 1, 2, 3], []])
def test_other_tokens_end_the_run(tokens: list[int]) -> None:
    server: Any = Answering(tokens=tokens, log="server.log")
    with pytest.raises(PromptError, match=f"'m' makes {len(tokens)} tokens .* make 3, or other ones.*server.log"):
        check_prompt(server, "m", MODEL, None)
