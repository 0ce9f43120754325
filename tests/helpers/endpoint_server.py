"""A server of somebody else: OpenAI's chat completions over TLS, as strict and as odd as such servers are.

The model that a request names is the way in which it is answered, one of STYLES. Standard library and openssl only.
"""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

FIELDS = {
    "model",
    "messages",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
}
THOUGHT, ANSWER = ("So 3+4", " is 7."), ("The answer", " is \\boxed{7}.")
USAGE = {"prompt_tokens": 21, "completion_tokens": 19, "total_tokens": 40}
STYLES = {
    "reasoner": "thinking in a field of its own, usage behind the end",
    "chat": "no thinking, usage with the last chunk",
    "bare": "no usage, no [DONE], a body that ends with its connection, another finish reason",
    "tags": "thinking between tags, no usage",
    "filtered": "cut by a filter",
    "busy": "too many requests",
    "moved": "elsewhere",
    "whole": "not streamed",
    "slow": "as chat, a moment later",
}


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of localhost that signs itself, and its key."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*command, "-out", str(certificate), "-keyout", str(key)], check=True, capture_output=True)
    return certificate, key


@dataclass
class EndpointServer:
    """The server, in threads of its own while the context is open.

    Attributes:
        tls: its certificate and key; None: no TLS.
        key: the only one that it takes; None: it asks for none.
        metrics: the page under /metrics; None: 404.
        extras: fields of requests that it knows beyond OpenAI's.
        bodies: of all completions.
        headers: of all requests, names in lower case.
        most: requests that were in flight at once.
    """

    tls: tuple[Path, Path] | None = None
    key: str | None = None
    metrics: bytes | None = None
    extras: frozenset[str] = frozenset()
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    most: int = 0

    def __enter__(self) -> Self:
        self._lock, self._flying = threading.Lock(), 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"told": self}))
        self._server.daemon_threads = True
        if self.tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self.tls)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://localhost:{self.port}/v1"

    def fly(self, change: int) -> None:
        with self._lock:
            self._flying += change
            self.most = max(self.most, self._flying)


class _Handler(BaseHTTPRequestHandler):
    told: EndpointServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._note()
        if self.path == "/v1/models":
            entries = [{"id": name, "created": time.time_ns(), "owned_by": "somebody"} for name in STYLES]
            self._send(200, json.dumps({"data": entries}).encode())
        elif self.path == "/metrics" and self.told.metrics is not None:
            self._send(200, self.told.metrics, "text/plain")
        else:
            self._send(404, b"{}")

    def do_POST(self) -> None:
        self._note()
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.told.bodies.append(body)
        self.told.fly(1)
        try:
            self._answer(body)
        finally:
            self.told.fly(-1)

    def _answer(self, body: dict[str, Any]) -> None:
        sent = self.headers.get("Authorization", "")
        unknown = set(body) - FIELDS - self.told.extras
        if "stream_options" in body and set(body["stream_options"]) - {"include_usage"} - self.told.extras:
            unknown.add("stream_options")
        style = body["model"]
        if self.path != "/v1/chat/completions":
            self._send(404, b'{"error": {"message": "no such path"}}')
        elif self.told.key is not None and sent != f"Bearer {self.told.key}":
            self._send(401, json.dumps({"error": {"message": f"Incorrect API key provided: {sent}"}}).encode())
        elif unknown:
            self._send(400, json.dumps({"error": {"message": f"unrecognized: {sorted(unknown)}, {sent}"}}).encode())
        elif style not in STYLES:
            self._send(404, b'{"error": {"message": "no such model"}}')
        elif style == "busy":
            self._send(429, b'{"error": {"message": "slow down"}}', headers={"Retry-After": "1"})
        elif style == "moved":
            self._send(307, b"", headers={"Location": "https://elsewhere.example/v1"})
        elif style == "whole":
            self._send(200, b'{"choices": [{"message": {"content": "7"}}]}')
        else:
            self._stream(style, list(events(style)))

    def _stream(self, style: str, parts: list[bytes]) -> None:
        if style == "slow":
            time.sleep(0.3)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        framed = style != "bare"
        self.send_header(*(("Transfer-Encoding", "chunked") if framed else ("Connection", "close")))
        self.end_headers()
        for part in parts:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part) if framed else part)
            self.wfile.flush()
            time.sleep(0.002)
        if framed:
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.close_connection = True

    def _send(
        self, status: int, content: bytes, kind: str = "application/json", headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Type": kind, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _note(self) -> None:
        self.told.headers.append({name.lower(): value for name, value in self.headers.items()})


def event(data: Any) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def chunk(finish: str | None = None, usage: dict[str, Any] | None = None, **delta: str) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    told = {"choices": [choice], "model": "served-1", "system_fingerprint": "fp_1"}
    return event(told | ({} if usage is None else {"usage": usage}))


def events(style: str) -> Iterator[bytes]:
    """What a style sends."""
    yield chunk(role="assistant", content="")
    if style == "tags":
        for text in ("<thi", "nk>", *THOUGHT, "</th", "ink>\n", *ANSWER):
            yield chunk(content=text)
        yield chunk(finish="stop")
        yield b"data: [DONE]\n\n"
        return
    if style == "reasoner":
        for text in THOUGHT:
            yield chunk(reasoning_content=text)
    for text in ANSWER[: 1 if style == "filtered" else None]:
        yield chunk(content=text)
    if style == "bare":
        yield chunk(finish="eos_token")
        return
    yield chunk(
        finish="content_filter" if style == "filtered" else "stop", usage=None if style == "reasoner" else USAGE
    )
    if style == "reasoner":
        yield event({"choices": [], "usage": {**USAGE, "completion_tokens_details": {"reasoning_tokens": 9}}})
    yield b"data: [DONE]\n\n"
