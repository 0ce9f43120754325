"""A real HTTP server on loopback that speaks the engines' protocol from a script, faults included.

The last word of a request's prompt names its reply in REPLIES (anything else gets "ok"). In a test's own process it
is the context manager `Scripted`; as a program (``python scripted.py --port P``) it stands in for an engine.
Standard library only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

HOST = "127.0.0.1"
THINK_CLOSE = 99  # the token id of </think>
THOUGHTS, ANSWER = ("Grüße 漢字 ", "so 6×7\n"), ("**", "42 ✓**")
THOUGHT_TOKENS, ANSWER_TOKENS, PROMPT_TOKENS = 5, 4, 11


def eventually(condition: Callable[[], bool], seconds: float = 30) -> bool:
    """Whether `condition` comes true within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


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


# Thinking of 2 + 3 tokens, then a chunk without text that closes it, then an answer of 1 + 2 and the end token.
CHUNKS = [
    chunk([], 0, role="assistant", content=""),
    chunk([1, 2], 2, reasoning=THOUGHTS[0]),
    chunk([3, 4, 5], 5, reasoning=THOUGHTS[1]),
    chunk([THINK_CLOSE], 6),
    chunk([6], 7, content=ANSWER[0]),
    chunk([7, 8], 9, content=ANSWER[1]),
    chunk([], 9, finish="stop"),
    {"choices": [], "usage": usage(9)},
]
EVENTS = [*map(event, CHUNKS), DONE]
WHOLE = b"".join(EVENTS)
OUTPUT_TOKENS = THOUGHT_TOKENS + ANSWER_TOKENS


@dataclass(frozen=True)
class Reply:
    """What a request gets: `pieces`, each an HTTP chunk of its own, then how the exchange ends.

    end: "finish" (properly), "close" (FIN without the last chunk), "reset" (RST), "hang", "drip" (a comment line now
    and then, for ever), "leave" (properly, then FIN on the kept-alive connection). drop: "always" or "reused":
    connections that are reset before any answer. raw: bytes to send instead of an HTTP answer.
    """

    pieces: Sequence[bytes] = tuple(EVENTS)
    end: str = "finish"
    status: str = "200 OK"
    kind: str = "text/event-stream; charset=utf-8"
    drop: str = ""
    raw: bytes | None = None


def cut(data: bytes, *marks: bytes) -> list[bytes]:
    """`data` cut one byte into the first occurrence of each mark."""
    places = [0, *sorted(data.index(mark) + 1 for mark in marks), len(data)]
    return [data[a:b] for a, b in zip(places, places[1:], strict=False)]


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
    "split-character": Reply(cut(WHOLE, "ü".encode(), "漢".encode(), "×".encode(), "✓".encode())),
    "split-line": Reply(cut(WHOLE, b"data: ", b"reasoning", b"[DONE]", b"\n\n")),
    "crlf": Reply([CRLF]),
    "split-crlf": Reply([piece for line in CRLF.split(b"\n")[:-1] for piece in (line, b"\n")]),
    "comments": Reply([b": ping\n\n", *EVENTS[:3], b"event: message\nid: 7\n: ping\n", *EVENTS[3:]]),
    "empty-choices": Reply([*EVENTS[:2], event({"choices": []}), b"data:\n\n", *EVENTS[2:]]),
    "leave": Reply(end="leave"),
    "drop-reused": Reply(drop="reused"),
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
REPLIES = FINE | FAULTS


@dataclass
class Scripted:
    """The server, in a thread of its own while the context is open.

    metrics: the page under /metrics (None: 404). width, total: with `width` set, a completion is answered only when
    min(width, those left of total) are in flight, one after the other: that many at once are proven, without a clock.
    `log` holds ("start" | "end", prompt, in flight afterwards); `open` the connections that are open now.
    """

    metrics: bytes | None = None
    width: int = 0
    total: int = 0
    port: int = 0
    unhealthy: int = 0
    unready: int = 0
    hang_first: bool = False
    faults: Path | None = None
    record: Path | None = None
    log: list[tuple[str, str, int]] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    open: int = 0
    accepted: int = 0

    def __enter__(self) -> Self:
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self.serve(ready.set)), daemon=True)
        self._thread.start()
        assert ready.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)

    async def serve(self, ready: Callable[[], None]) -> None:
        """Answer until the context ends; calls `ready` when it listens."""
        self._loop, self._stop, self._turn = asyncio.get_running_loop(), asyncio.Event(), asyncio.Condition()
        self._flying = self._ended = 0
        server = await asyncio.start_server(self._connection, HOST, self.port, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        ready()
        await self._stop.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open, self.accepted, served = self.open + 1, self.accepted + 1, 0
        try:
            while line := await reader.readline():
                length = 0
                while (header := await reader.readline()).strip():
                    name, _, value = header.partition(b":")
                    length = int(value) if name.lower() == b"content-length" else length
                method, path, _ = line.decode().split()
                body = json.loads(await reader.readexactly(length)) if length else {}
                self.seen.append(f"{method} {path}")
                if not await self._answer(reader, writer, path, body, served):
                    break
                served += 1
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            writer.close()

    async def _answer(self, reader: Any, writer: Any, path: str, body: dict[str, Any], served: int) -> bool:
        """Answer one request; returns whether the connection stays."""
        if path == "/v1/chat/completions":
            if self.record is not None:
                with self.record.open("a") as file:
                    file.write(json.dumps(body) + "\n")
            if not body.get("stream"):
                return await self._first(reader, writer)
            return await self._complete(reader, writer, body, served)
        found = {"/health": b"", "/metrics": self.metrics, "/reset_prefix_cache": b""}.get(path)
        if path == "/health" and self.unhealthy > 0:
            self.unhealthy, found = self.unhealthy - 1, None
        status = b"404 No" if found is None else b"200 OK"
        writer.write(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(found or b""), found or b""))
        await writer.drain()
        return True

    async def _first(self, reader: Any, writer: Any) -> bool:
        """The completion that proves a server ready: refused (reset) `unready` times, or never answered."""
        if self.hang_first:
            await reader.read()
        if self.unready > 0:
            self.unready -= 1
            writer.transport.abort()
            return False
        text = b'{"choices": [{"message": {"content": "2"}}]}'
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(text) + text)
        await writer.drain()
        return True

    async def _complete(self, reader: Any, writer: Any, body: dict[str, Any], served: int) -> bool:
        prompt = body["messages"][-1]["content"]
        fault = json.loads(self.faults.read_text()) if self.faults is not None and self.faults.exists() else {}
        name = fault.get(f"{prompt.split()[0]} {body.get('max_tokens')}", prompt.split()[-1])
        if name == "die":
            os._exit(7)
        reply = REPLIES.get(name, REPLIES["ok"])
        if reply.drop == "always" or (reply.drop == "reused" and served):
            writer.transport.abort()
            return False
        async with self._turn:
            self._note("start", prompt, 1)
            await self._turn.wait_for(lambda: self._flying >= min(self.width, self.total - self._ended))
            if reply.raw is not None:
                writer.write(reply.raw)
            else:
                head = f"HTTP/1.1 {reply.status}\r\nContent-Type: {reply.kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
                writer.write(head.encode() + b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in reply.pieces))
            # Told before the client can know it: what it sends next then counts as later.
            self._note("end", prompt, -1)
            self._ended += 1
            if reply.end in ("finish", "leave"):
                writer.write(b"0\r\n\r\n")
        await writer.drain()
        if reply.end == "reset":
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        elif reply.end == "hang":
            await reader.read()
        while reply.end == "drip" and not writer.transport.is_closing():
            writer.write(b"2\r\n:\n\r\n")
            await writer.drain()
            await asyncio.sleep(0.02)
        return reply.end == "finish"

    def _note(self, what: str, prompt: str, change: int) -> None:
        self._flying += change
        self.log.append((what, prompt, self._flying))
        self._turn.notify_all()


def main() -> None:
    """The server as a program: a stand-in for an engine."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--unhealthy", type=int, default=0)
    parser.add_argument("--unready", type=int, default=0)
    parser.add_argument("--hang-first", action="store_true")
    parser.add_argument("--faults", type=Path)
    parser.add_argument("--record", type=Path)
    parser.add_argument("--metrics", type=Path)
    parser.add_argument("--grandchild", type=Path, help="start a process in a session of its own, its id goes here")
    options = vars(parser.parse_args())
    note, page = options.pop("grandchild"), options.pop("metrics")
    if note is not None:
        sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
        note.write_text(str(sleeper.pid))
    server = Scripted(**options, metrics=None if page is None else page.read_bytes())
    asyncio.run(server.serve(lambda: print("listening", flush=True)))


if __name__ == "__main__":
    main()
