"""The reason that a server gives within a stream, in the shapes of engines, frameworks and proxies."""

from __future__ import annotations

import pytest
from helpers.sse_fixtures import DONE, EVENTS, THINK_CLOSE, event
from rllm_serving.load.client import HttpExchange
from rllm_serving.load.sse import events
from rllm_serving.load.stream import RequestResult, decode
from rllm_serving.load.stream_errors import LONGEST_REASON, told_reason


def read(pieces: list[bytes], think_close: int | None = None, failure: str | None = None) -> RequestResult:
    stamps = [float(i) for i in range(len(pieces))]
    whole = HttpExchange(0.0, http_status=200, content_type="text/event-stream", stamps=stamps, pieces=pieces)
    whole.failure, whole.error = failure, failure and "cut off"
    return decode(whole, think_close)


TOLD = "error within the stream: "
VLLM = {"error": {"message": "EngineCore died", "type": "InternalServerError", "param": None, "code": 500}}
SGLANG = {"error": {"object": "error", "message": "too long", "type": "BadRequestError", "param": None, "code": 400}}


@pytest.mark.parametrize(
    ("piece", "reason"),
    [
        (event(VLLM), "EngineCore died (InternalServerError, 500)"),
        (event(SGLANG), "too long (BadRequestError, 400)"),
        (event(SGLANG["error"]), "too long (BadRequestError, 400)"),
        (event({"error": "overloaded", "error_type": "overloaded"}), "overloaded"),
        (event({"error": {"why": "?"}}), '{"why":"?"}'),
        (event(VLLM | {"choices": None}), "EngineCore died (InternalServerError, 500)"),
        (event({"detail": "Not Found"}), "Not Found"),
        (event({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}), "busy (overloaded_error)"),
        (b"event: error\n" + event(VLLM), "EngineCore died (InternalServerError, 500)"),
        (b"event: error\n" + event({"message": "gone", "code": 503}), "gone (503)"),
        (b"event:Error\r\ndata: upstream gave up\r\ndata: after 3 tries\r\n\r\n", "upstream gave up\nafter 3 tries"),
        (b"event: error\n" + event("gone"), "gone"),
    ],
)
@pytest.mark.parametrize("failure", [None, "truncated"])
def test_the_reason_that_a_server_gives_within_a_stream_is_kept(piece: bytes, reason: str, failure: str | None) -> None:
    outcome = read([*EVENTS[:3], piece, DONE], failure=failure)
    assert (outcome.status, outcome.last_token) == ("http", None)
    assert outcome.error == f"{TOLD}{reason}" + ("; then: cut off" if failure else "")
    assert outcome.chunk_tokens == [2, 3]


def test_events_of_other_names_are_no_errors() -> None:
    pieces = [b"event: ping\n" + event({"type": "ping"}), b"event: message\n" + EVENTS[0], *EVENTS[1:]]
    assert read(pieces, think_close=THINK_CLOSE).status == "ok"


def test_a_long_reason_is_kept_short() -> None:
    [told] = events([0.0], [event({"error": {"message": "x" * 5000}})])
    assert told_reason(told) == "x" * LONGEST_REASON
