"""Chat-completion streams as the engines send them, and every way in which a server can get one wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

THINK_CLOSE, EOS = 99, 8  # the token ids of </think> and of the end of an answer
THOUGHTS, ANSWER = ("Grüße 漢字 ", "so 6→7\n"), ("**", "42 ✓**")
THOUGHT_TOKENS, ANSWER_TOKENS, PROMPT_TOKENS = 5, 2, 11


def event(data: Any, end: bytes = b"\n") -> bytes:
    """One server-sent event."""
    text = data if isinstance(data, bytes) else json.dumps(data, ensure_ascii=False).encode()
    return b"data: " + text + end + end


DONE = event(b"[DONE]")


def chunk(ids: Sequence[int], total: int, finish: str | None = None, **delta: str) -> dict[str, Any]:
    """A chunk as vLLM sends it: text of the delta, its token ids, and the running usage."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish, "token_ids": list(ids) or None}
    return {"choices": [choice], "usage": usage(total)}


def usage(total: int) -> dict[str, int]:
    return {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": total, "total_tokens": PROMPT_TOKENS + total}


# Thinking of 2 + 3 tokens, then a chunk without text that closes it, then an answer of 1 + 1 and the end token.
CHUNKS = [
    chunk([], 0, role="assistant", content=""),
    chunk([1, 2], 2, reasoning=THOUGHTS[0]),
    chunk([3, 4, 5], 5, reasoning=THOUGHTS[1]),
    chunk([THINK_CLOSE], 6),
    chunk([6], 7, content=ANSWER[0]),
    chunk([7, EOS], 9, content=ANSWER[1]),
    chunk([], 9, finish="stop"),
    {"choices": [], "usage": usage(9)},
]
EVENTS = [*map(event, CHUNKS), DONE]
WHOLE = b"".join(EVENTS)
OUTPUT_TOKENS = THOUGHT_TOKENS + 1 + ANSWER_TOKENS + 1


@dataclass(frozen=True)
class Reply:
    """What a request gets: `pieces`, each an HTTP chunk of its own, then how the exchange ends.

    end: "finish" (properly), "close" (FIN without the last chunk), "reset" (RST), "die" (the whole server), "hang",
    "drip" (`drip` now and then, for ever), "leave" (properly, then FIN on the kept-alive connection). drop: "always" or
    "reused": connections that are reset before any answer; "deaf": all of them, and no new one is accepted. raw: bytes
    to send instead of an HTTP answer. trickle: so many bytes come one at a time. echo: the answer is not 42 but the
    prompt's first word.
    """

    pieces: Sequence[bytes] = tuple(EVENTS)
    end: str = "finish"
    status: str = "200 OK"
    kind: str = "text/event-stream; charset=utf-8"
    drop: str = ""
    raw: bytes | None = None
    headers: str = ""
    trickle: int = 0
    drip: bytes = b"2\r\n:\n\r\n"
    echo: bool = False


def cut(data: bytes, *marks: bytes) -> list[bytes]:
    """`data` cut one byte into the first occurrence of each mark."""
    places = [0, *sorted(data.index(mark) + 1 for mark in marks), len(data)]
    return [data[a:b] for a, b in pairwise(places)]


def _slices(data: bytes, count: int) -> list[bytes]:
    """`data` in at most `count` equal pieces."""
    size = -(-len(data) // count)
    return [data[i : i + size] for i in range(0, len(data), size)]


def _without_usage() -> list[bytes]:
    return [*(event({k: v for k, v in c.items() if k != "usage"}) for c in CHUNKS[:-1]), DONE]


CRLF = b"".join(event(c, b"\r\n") for c in CHUNKS) + event(b"[DONE]", b"\r\n")
_FAILED = {"error": {"message": "EngineCore encountered an issue", "type": "InternalServerError", "code": 500}}

FINE = {
    "ok": Reply(),
    "one-piece": Reply([WHOLE]),
    "two-in-one": Reply([b"".join(EVENTS[i : i + 2]) for i in range(0, len(EVENTS), 2)]),
    "twenty-pieces": Reply([piece for whole in EVENTS for piece in _slices(whole, 20)]),
    "split-character": Reply(cut(WHOLE, "ü".encode(), "漢".encode(), "→".encode(), "✓".encode())),
    "split-line": Reply(cut(WHOLE, b"data: ", b"reasoning", b"[DONE]", b"\n\n")),
    "crlf": Reply([CRLF]),
    "split-crlf": Reply([piece for line in CRLF.split(b"\n")[:-1] for piece in (line, b"\n")]),
    "comments": Reply([b": ping\n\n", *EVENTS[:3], b"event: message\nid: 7\n: ping\n", *EVENTS[3:]]),
    "empty-choices": Reply([*EVENTS[:2], event({"choices": []}), b"data:\n\n", *EVENTS[2:]]),
    "leave": Reply(end="leave"),
    "drop-reused": Reply(drop="reused"),
    "trickle": Reply(trickle=400),  # the head and the first events
}
FAULTS = {
    "reset": Reply(EVENTS[:3], "reset"),
    "close": Reply(EVENTS[:3], "close"),
    "close-at-once": Reply([], "close"),
    "hang": Reply(EVENTS[:3], "hang"),
    "silent": Reply(raw=b"", end="hang"),
    "drip": Reply(EVENTS[:3], "drip"),
    "drop": Reply(drop="always"),
    "http-500": Reply([b'{"error":{"message":"the engine is dead"}}'], status="500 No", kind="application/json"),
    "http-400": Reply([b'{"error":{"message":"max_tokens is too large"}}'], status="400 No", kind="application/json"),
    "error-event": Reply([*EVENTS[:3], event(_FAILED), DONE]),
    "bad-utf8": Reply([*EVENTS[:3], event(json.dumps(CHUNKS[4]).encode().replace(b"**", b"\xff\xfe")), *EVENTS[4:]]),
    "not-json": Reply([*EVENTS[:3], event(b'{"choices": [{"delta"'), *EVENTS[3:]]),
    "nothing-but-choices": Reply([event({"choices": []}), EVENTS[-2], DONE]),
    "no-usage": Reply(_without_usage()),
    "no-done": Reply(EVENTS[:-1]),
    "no-finish": Reply([*EVENTS[:-3], *EVENTS[-2:]]),
    "aborted": Reply([*EVENTS[:3], event(chunk([], 5, finish="abort")), DONE]),
    "wrong-type": Reply([b"<html>welcome</html>"], kind="text/html"),
    "not-http": Reply(raw=b"SSH-2.0-OpenSSH_9.6\r\n\r\n", end="hang"),
}
MORE_FAULTS = {
    "http-429": Reply([b"too many requests"], status="429 No", kind="text/plain", headers="Retry-After: 0\r\n"),
    "http-500-close": Reply(raw=b"HTTP/1.1 500 No\r\nContent-Type: text/plain\r\n\r\nout of memory", end="close"),
    "refused": Reply(drop="deaf"),
    "reset-in-head": Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Ty", end="reset"),
    "loris": Reply(raw=b"HTTP/1.1 200 OK\r\nX-Slow: ", end="drip", drip=b"z"),
    "half-event": Reply([*EVENTS[:3], EVENTS[4][:-20]]),
    "cut-character": Reply(cut(WHOLE, "✓".encode())[:1], "close"),
    "half-character": Reply([*EVENTS[:3], EVENTS[5].replace("✓".encode(), "✓".encode()[:1]), *EVENTS[6:]]),
}
OTHERS = {"echo": Reply(echo=True), "die-halfway": Reply(EVENTS[:3], "die")}
REPLIES = FINE | FAULTS | MORE_FAULTS | OTHERS
