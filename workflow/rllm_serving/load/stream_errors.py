"""Why a server says, within a stream, that a request failed: the shapes in which engines and proxies say it."""

from __future__ import annotations

from typing import Any

import msgspec

from .sse import BYTE_ORDER_MARK, Event

LONGEST_REASON = 500


def told_reason(event: Event) -> str | None:
    """What an event says of a failure; None where it is no error.

    vLLM and SGLang send `data: {"error": {"message", "type", "code"}}`; older ones the inner object alone, with
    `"object": "error"`; web frameworks `{"detail": ...}`; proxies an event named `error` with any data.
    """
    try:
        value: Any = msgspec.json.decode(event.data.removeprefix(BYTE_ORDER_MARK))
    except (msgspec.DecodeError, UnicodeDecodeError):
        value = None
    if isinstance(value, dict):
        if value.get("error") is not None:
            return _readable(value["error"])
        if value.get("object") == "error" or value.get("type") == "error":
            return _readable(value)
        if value.get("detail") is not None and "choices" not in value:
            return _readable(value["detail"])
    if event.name.strip().lower() == b"error":
        return event.data.decode("utf-8", "replace")[:LONGEST_REASON] if value is None else _readable(value)
    return None


def _readable(value: Any) -> str:
    """The message of an error, with its type and code where it has them; the whole of it where it has no message."""
    if isinstance(value, dict) and value.get("message"):
        kind = [str(value[name]) for name in ("type", "code") if value.get(name) is not None]
        text = f"{value['message']}" + (f" ({', '.join(kind)})" if kind else "")
    else:
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text[:LONGEST_REASON]
