"""Whether a prefix cache has hits, asked of servers that count as the engines do."""

from __future__ import annotations

import json
import urllib.error
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rllm_serving.serving import prefix_probe
from rllm_serving.serving.engines import ENGINES
from rllm_serving.serving.prefix_probe import has_hits
from rllm_serving.serving.server import Server


class Counting:
    """A server whose cache has hits of whole blocks, and of prompts of so many tokens at least."""

    def __init__(self, block: int = 16, shortest: int = 0, late: int = 0, counts: bool = True) -> None:
        self.engine, self.config = ENGINES["vllm"], SimpleNamespace(served_name="m")
        self.block, self.shortest, self.late, self.counts = block, shortest, late, counts
        self.queries = self.hits = 0
        self.seen: set[str] = set()
        self.asked: list[int] = []

    def post(self, path: str, body: dict[str, Any], timeout_s: float) -> bytes:
        assert path == "/v1/completions" and body["model"] == "m" and body["max_tokens"] == 1 and timeout_s > 60
        tokens = len(body["prompt"].split())
        self.asked.append(tokens)
        self.queries += tokens * self.counts
        if body["prompt"] in self.seen and tokens >= self.shortest:
            self.hits += (tokens - 1) // self.block * self.block
        self.seen.add(body["prompt"])
        return json.dumps({"usage": {"prompt_tokens": tokens}}).encode()

    def get(self, path: str) -> bytes:
        assert path == "/metrics"
        if self.late:  # counters lag behind the answers
            self.late -= 1
            return b""
        lines = [
            f'vllm:prefix_cache_{name}_total{{engine="{rank}"}} {value / 2}\n'
            for rank in (0, 1)
            for name, value in (("queries", self.queries), ("hits", self.hits))
        ]
        return "".join(lines).encode()


def hits(server: Counting, block: int = 16, context: int = 4096) -> bool | None:
    return has_hits(cast(Server, server), block, context)


def test_a_prompt_that_is_asked_twice_is_found() -> None:
    server = Counting()
    assert hits(server) is True and server.asked == [64, 64, 1365, 1365]
    assert hits(Counting(late=3)) is True


def test_a_cache_without_hits_is_told_whatever_the_engine_says() -> None:
    assert hits(Counting(shortest=10_000)) is False
    # One that aligns its hits to more than a block has some.
    assert hits(Counting(block=528)) is True


def test_what_cannot_be_told_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Counting()
    assert hits(server, context=128) is None and server.asked == []  # no room for some blocks
    monkeypatch.setattr(prefix_probe, "WAIT_S", 0.1)
    assert hits(Counting(counts=False)) is None

    def refuse(path: str, body: object, timeout_s: float) -> bytes:
        raise urllib.error.HTTPError(path, 404, "no such page", None, None)  # type: ignore[arg-type]

    monkeypatch.setattr(server, "post", refuse)
    assert hits(server) is None
    monkeypatch.setattr(server, "post", lambda *_: b"[]")
    assert hits(server) is None
