"""A server that streams completions from a script, cheaply and on time: what measuring clients are measured with.

It speaks as much of the OpenAI protocol as vLLM's, SGLang's, AIPerf's and our own client use. The model that a request
names is its script, `CONTENT-RATE`: RATE events a second, each with CONTENT: "plain", a word; "stamped", the time at
which it is sent, on this machine's monotonic clock (CLOCK_MONOTONIC, seconds), which is the clients' clock too; "step",
the same, with all streams sending at the same moments, as an engine's batch does, and not spread evenly over them. The
request's token limit is the number of events, a token each; the first comes FIRST_S after the request, up to an event's
interval later. GET /log tells, and forgets, what was streamed: [the request's X-Request-ID, when it came, when its
first event was sent].

Prints its port, and ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import math
import os
import re
import resource
import sys
import time
from typing import Any, cast

import uvloop

clock = time.perf_counter
FIRST_S = 0.05
PROMPT_TOKENS = 16
DEFAULT_EVENTS = 16

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.I)
REQUEST_ID = re.compile(rb"\r\nx-request-id: *([^\r]+)", re.I)
SCRIPT = re.compile(rb'"model": *"((plain|stamped|step)-(\d+))"')
LIMIT = re.compile(rb'"max_(?:completion_)?tokens": *(\d+)')
STREAM = re.compile(rb'"stream": *true')
RUNNING_USAGE = re.compile(rb'"continuous_usage_stats": *true')
USAGE = re.compile(rb'"include_usage": *true')
TOKEN_IDS = re.compile(rb'"return_token_ids": *true')

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
COUNTS = b',"usage":{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d}'
# As long as vLLM's after some requests; only these lines are read.
METRICS = b"".join(
    b'other:metric_%d{engine="0",le="0.%d",model_name="scripted"} %d.0\n' % (n, n, n) for n in range(600)
)
METRICS += b"vllm:num_requests_running 1.0\nvllm:num_requests_waiting 0.0\nvllm:kv_cache_usage_perc 0.5\n"
MODELS = json.dumps({"object": "list", "data": [{"id": "plain-100", "object": "model"}]}).encode()
WHOLE = json.dumps(
    {"object": "chat.completion", "choices": [{"message": {"role": "assistant", "content": "word"}, "text": "word"}]}
).encode()
phases = (k * 0.618034 % 1 for k in itertools.count())  # multiples of the golden ratio: any number of them is even
log: list[tuple[str | None, float, float]] = []


def piece(event: bytes) -> bytes:
    """An event as an HTTP chunk of its own, as the engines send it."""
    event = b"data: %b\n\n" % event
    return b"%x\r\n%b\r\n" % (len(event), event)


class Connection(asyncio.Protocol):
    """One connection: requests come one after the other, each is answered before the next."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.socket: int = transport.get_extra_info("socket").fileno()
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        while True:
            head, found, rest = self.received.partition(b"\r\n\r\n")
            length = LENGTH.search(head)
            size = int(length[1]) if length else 0
            if not found or len(rest) < size:
                return
            self.received = rest[size:]
            self.answer(head, rest[:size])

    def answer(self, head: bytes, body: bytes) -> None:
        path = head.split(b" ", 2)[1].partition(b"?")[0]
        script = SCRIPT.search(body)
        if path in (b"/v1/chat/completions", b"/v1/completions") and script:
            if STREAM.search(body):
                self.stream(head, body, script, chat=b"chat" in path)
            else:
                self.page(b"200 OK", WHOLE)
        elif path == b"/log":
            self.page(b"200 OK", json.dumps(log).encode())
            log.clear()
        elif path == b"/metrics":
            self.page(b"200 OK", METRICS)
        elif path in (b"/health", b"/v1/models"):
            self.page(b"200 OK", MODELS)
        else:
            self.page(b"404 Not Found", b"{}")

    def page(self, status: bytes, text: bytes) -> None:
        head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(text))
        self.transport.write(head + text)

    def stream(self, head: bytes, body: bytes, script: re.Match[bytes], chat: bool) -> None:
        """Start a stream: what does not change from event to event is put together now."""
        self.came = clock()
        request_id = REQUEST_ID.search(head)
        self.request_id = request_id[1].decode() if request_id else None
        self.stamped, self.interval = script[2] != b"plain", 1 / int(script[3])
        limit = LIMIT.search(body)
        self.events, self.sent = int(limit[1]) if limit else DEFAULT_EVENTS, 0
        kind = b"chat.completion.chunk" if chat else b"text_completion"
        common = b'{"id":"scripted","object":"%b","created":1,"model":"%b","choices":[' % (kind, script[1])
        self.front = common + b'{"index":0,' + (b'"delta":{"content":"' if chat else b'"text":"')
        middle = (b'"}' if chat else b'"') + b',"logprobs":null,"finish_reason":%b'
        middle += (b',"token_ids":[17]' if TOKEN_IDS.search(body) else b"") + b"}]"
        self.middle, self.last = middle % b"null", middle % b'"length"'
        self.counts = bool(RUNNING_USAGE.search(body))
        role = common + b'{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]%b}'
        self.opening = piece(role % self.count(0)) if chat else b""
        total = common + b"]%b}" % (COUNTS % (PROMPT_TOKENS, PROMPT_TOKENS + self.events, self.events))
        self.closing = (piece(total) if USAGE.search(body) else b"") + piece(b"[DONE]") + b"0\r\n\r\n"
        # Requests come at once: without phases of their own, streams of any script would send in step.
        phase = 0.0 if script[2] == b"step" else next(phases)
        self.start = (math.ceil((self.came + FIRST_S) / self.interval - phase) + phase) * self.interval
        self.send(HEAD)
        self.later()

    def count(self, sent: int) -> bytes:
        return COUNTS % (PROMPT_TOKENS, PROMPT_TOKENS + sent, sent) if self.counts else b""

    def later(self) -> None:
        """The next event is sent when it is due, to a millisecond; being late for one does not delay those after it."""
        due = self.start + self.sent * self.interval
        asyncio.get_running_loop().call_later(max(0.0, due - clock()), self.next)

    def next(self) -> None:
        if self.transport.is_closing():
            return
        self.sent += 1
        end = self.sent == self.events
        rest = (self.last if end else self.middle) + self.count(self.sent) + b"}"
        before, after = self.opening if self.sent == 1 else b"", self.closing if end else b""
        now = clock()
        content = b"%.7f " % now if self.stamped else b" word"
        self.send(before + piece(self.front + content + rest) + after)
        if self.sent == 1:
            log.append((self.request_id, self.came, now))
        if not end:
            self.later()

    def send(self, data: bytes) -> None:
        """Write now: uvloop's own write waits for the end of the loop's turn, and a stamp would be early by that."""
        if not self.transport.get_write_buffer_size():
            try:
                data = data[os.write(self.socket, data) :]
            except BlockingIOError:
                pass
            except OSError:
                self.transport.abort()
                return
        if data:
            self.transport.write(data)


async def main() -> None:
    """Serve until standard input ends."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    server: Any = await loop.create_server(Connection, "127.0.0.1", 0, backlog=4096)
    loop.add_reader(sys.stdin.fileno(), over.set)
    print(server.sockets[0].getsockname()[1], flush=True)
    gc.freeze()
    gc.disable()
    await over.wait()


if __name__ == "__main__":
    uvloop.run(main())
