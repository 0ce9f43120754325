"""Whether a server's prefix cache has hits: a prompt that is asked twice tells, whatever its options say."""

from __future__ import annotations

import http.client
import json
import time
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from .server import Server

BLOCKS = 4
"""Blocks of a prompt at least: some kinds of speculation leave a hit's last block out."""
LONGEST = 4096
"""Words of a prompt at most."""
TOKENS_A_WORD = 3
ANSWER_S = 600.0
"""How long an answer may take: kernels may be compiled for it, and one that is given up would still run afterwards."""
WAIT_S = 5.0
"""How long the counters may lag behind an answer."""


def has_hits(server: Server, block: int, context: int) -> bool | None:
    """Ask the same prompt twice and see whether the counter of hits grows; None where that cannot be told.

    Args:
        server: ready; what the prompt leaves in its cache has to be flushed.
        block: tokens of a block of its KV pool.
        context: tokens of prompt and output together.
    """
    longest = min(context // TOKENS_A_WORD, LONGEST)
    # A cache that aligns its hits to more than a block needs the long one.
    lengths = sorted({words for words in (BLOCKS * block, longest) if BLOCKS * block <= words <= longest})
    answers = [_hits_twice(server, words) for words in lengths]
    return True if any(answers) else None if None in answers or not answers else False


def _hits_twice(server: Server, words: int) -> bool | None:
    body = {
        "model": server.config.served_name,
        "prompt": " ".join(str(number % 10) for number in range(words)),
        "max_tokens": 1,
        "temperature": 0,
    }
    try:
        before = _counts(server)
        asked = sum(_prompt_tokens(server, body) for _ in range(2))
        deadline = time.monotonic() + WAIT_S
        while (after := _counts(server))[0] - before[0] < asked:
            if time.monotonic() > deadline:
                return None
            time.sleep(0.05)
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return None
    return after[1] > before[1]


def _prompt_tokens(server: Server, body: dict[str, Any]) -> int:
    tokens: int = json.loads(server.post("/v1/completions", body, ANSWER_S))["usage"]["prompt_tokens"]
    return tokens


def _counts(server: Server) -> tuple[float, float]:
    """Tokens that were looked for in the cache, and found, since the server's start."""
    wanted = [server.engine.metrics[name].metric for name in ("prefix_queries", "prefix_hits")]
    totals = dict.fromkeys(wanted, 0.0)
    for family in text_string_to_metric_families(server.get("/metrics").decode()):
        for sample in family.samples:
            if sample.name in totals:
                totals[sample.name] += sample.value
    return totals[wanted[0]], totals[wanted[1]]
