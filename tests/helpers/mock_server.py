"""A real HTTP server on loopback that answers as the engines do, with scripted replies and faults.

The last word of a request's prompt names its reply in REPLIES (anything else gets "ok"). In a test's own process it
is the context manager `MockServer`; as a program (PROGRAM) it replaces an engine. Standard library only.
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
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from helpers.sse_fixtures import REPLIES, Reply

HOST = "127.0.0.1"
PROMPT = [5, 6, 7]
"""The tokens that it makes of any prompt."""
TESTS = str(Path(__file__).parents[1])
PROGRAM = [
    sys.executable,
    "-c",
    f"import sys; sys.path.insert(0, {TESTS!r}); from helpers.mock_server import main; main()",
]


def eventually(condition: Callable[[], bool], seconds: float = 30) -> bool:
    """Whether `condition` comes true within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@dataclass
class MockServer:
    """The server, in a thread of its own while the context is open.

    Attributes:
        metrics: the page under /metrics; None: 404.
        pages: whole answers, head included, to the next requests for it, each the last one of its connection.
        width: completions are answered only while this many, or all that are left of `total`, are in flight: so a
            test can prove concurrency without a clock.
        total: how many completions will come.
        groups: the first `width` completions are answered when all of them have come, then the next.
        port: its TCP port; 0: a free one.
        unhealthy: how many health checks fail first.
        unready: how many first completions are reset.
        unflushed: how many times the prefix cache is not emptied when it should be.
        hang_first: whether the first completion is never answered.
        faults: file that names the replies to single requests.
        record: file that bodies of completions are appended to.
        log: ("start" or "end", prompt, number in flight afterwards).
        received: method and path of every request.
        open: number of connections that are open now.
        accepted: number of connections so far.
    """

    metrics: bytes | None = None
    pages: list[bytes] = field(default_factory=list)
    width: int = 0
    total: int = 0
    groups: bool = False
    port: int = 0
    unhealthy: int = 0
    unready: int = 0
    unflushed: int = 0
    hang_first: bool = False
    faults: Path | None = None
    record: Path | None = None
    log: list[tuple[str, str, int]] = field(default_factory=list)
    received: list[str] = field(default_factory=list)
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
        self._listener = await asyncio.start_server(self._connection, HOST, self.port, backlog=1024)
        self.port = self._listener.sockets[0].getsockname()[1]
        ready()
        await self._stop.wait()
        self._listener.close()
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
                self.received.append(f"{method} {path}")
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
        if path == "/metrics" and self.pages:
            writer.write(self.pages.pop(0))
            await writer.drain()
            return False
        content = {"/health": b"", "/metrics": self.metrics}.get(path)
        if path == "/reset_prefix_cache":
            content = json.dumps({"success": self.unflushed <= 0}).encode()
            self.unflushed -= 1
        if path == "/tokenize":
            content = json.dumps({"tokens": PROMPT}).encode()
        if path == "/health" and self.unhealthy > 0:
            self.unhealthy, content = self.unhealthy - 1, None
        status = b"404 No" if content is None else b"200 OK"
        writer.write(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(content or b""), content or b""))
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
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(text) + text
        )
        await writer.drain()
        return True

    async def _complete(self, reader: Any, writer: Any, body: dict[str, Any], served: int) -> bool:
        prompt = body["messages"][-1]["content"]
        fault = json.loads(self.faults.read_text()) if self.faults is not None and self.faults.exists() else {}
        name = fault.get(f"{prompt.split()[0]} {body.get('max_tokens')}", prompt.split()[-1])
        if name == "die":
            os._exit(7)
        reply = REPLIES.get(name, REPLIES["ok"])
        if reply.drop == "deaf":
            self._listener.close()
        if reply.drop in ("always", "deaf") or (reply.drop == "reused" and served):
            writer.transport.abort()
            return False
        async with self._turn:
            self._note("start", prompt, 1)
            come = self._flying + self._ended
            group = min(self.total, -(-come // max(1, self.width)) * self.width)
            await self._turn.wait_for(
                lambda: (
                    self._flying + self._ended >= group
                    if self.groups
                    else self._flying >= min(self.width, self.total - self._ended)
                )
            )
            # Noted before the answer is written: what the client sends next is then noted later.
            self._note("end", prompt, -1)
            answer = _bytes(reply, prompt.split()[0])
            if not reply.trickle:
                writer.write(answer)
        for start in range(reply.trickle):
            writer.write(answer[start : start + 1] if start + 1 < reply.trickle else answer[start:])
            await asyncio.sleep(0.001)
        await writer.drain()
        if reply.end == "die":
            os._exit(7)
        elif reply.end == "reset":
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        elif reply.end == "hang":
            await reader.read()
        while reply.end == "drip" and not writer.transport.is_closing():
            writer.write(reply.drip)
            await writer.drain()
            await asyncio.sleep(0.02)
        return reply.end == "finish"

    def _note(self, what: str, prompt: str, change: int) -> None:
        self._flying += change
        self._ended += what == "end"
        self.log.append((what, prompt, self._flying))
        # Wake the waiting ones only when they can go on: with many of them, waking all at every start is slow.
        if self.groups or self._flying >= min(self.width, self.total - self._ended):
            self._turn.notify_all()


def _bytes(reply: Reply, word: str) -> bytes:
    """The answer on the wire; word: the first one of the prompt."""
    if reply.raw is not None:
        return reply.raw
    head = f"HTTP/1.1 {reply.status}\r\nContent-Type: {reply.kind}\r\n{reply.headers}Transfer-Encoding: chunked\r\n\r\n"
    pieces = (piece.replace(b"42", word.encode()) if reply.echo else piece for piece in reply.pieces)
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return head.encode() + chunks + b"0\r\n\r\n" * (reply.end in ("finish", "leave"))


def main() -> None:
    """The server as a program: a stand-in for an engine."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--unhealthy", type=int, default=0)
    parser.add_argument("--unready", type=int, default=0)
    parser.add_argument("--unflushed", type=int, default=0)
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
    server = MockServer(**options, metrics=None if page is None else page.read_bytes())
    asyncio.run(server.serve(lambda: print("listening", flush=True)))
