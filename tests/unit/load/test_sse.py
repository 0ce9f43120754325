"""Server-sent events: bytes cut where it hurts, every line end, and what is no line end."""

from __future__ import annotations

import json

import pytest
from helpers.sse_fixtures import CHUNKS, EVENTS, WHOLE
from rllm_serving.load.sse import BYTE_ORDER_MARK, events


def payloads(*pieces: bytes) -> list[bytes]:
    return [event.data for event in events([0.0] * len(pieces), pieces)]


def slices(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, len(WHOLE)])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_events_are_the_same_however_the_bytes_are_cut(size: int, line_end: bytes) -> None:
    pieces = slices(WHOLE.replace(b"\n", line_end), size)
    found = list(events(range(len(pieces)), pieces))
    assert [json.loads(event.data) for event in found[:-1]] == CHUNKS and found[-1].data == b"[DONE]"
    # Each carries the time of the piece with its last byte.
    lengths = [len(e.replace(b"\n", line_end)) for e in EVENTS]
    assert [event.time for event in found] == [(sum(lengths[: i + 1]) - 1) // size for i in range(len(lengths))]


def test_data_lines_are_joined_and_other_fields_passed_over() -> None:
    page = b"event: x\ndata: a\ndata:b\nid: 3\n\n: comment\n\ndata:\n\nretry: 5\ndata:  c\n\ndata: never ended\n"
    assert payloads(page) == [b"a\nb", b" c"]


def test_a_field_without_a_colon_has_an_empty_value() -> None:
    assert payloads(b"data: a\ndata\ndata: b\n\ndatabase: c\n\n") == [b"a\n\nb"]


def test_an_event_has_the_name_that_it_gives_itself_and_no_other() -> None:
    page = b"event: ping\n\ndata: a\n\ndata: b\nevent:error\n\ndata: c\n\n"
    found = [(event.name, event.data) for event in events([0.0], [page])]
    assert found == [(b"", b"a"), (b"error", b"b"), (b"", b"c")]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 100])
def test_a_byte_order_mark_before_all_is_passed_over(size: int) -> None:
    page = BYTE_ORDER_MARK + b"data: a\n\n" + BYTE_ORDER_MARK + b"data: no field\n\n"
    assert payloads(*slices(page, size)) == [b"a"]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
@pytest.mark.parametrize("size", [1, 100])
def test_separators_of_unicode_are_text(separator: str, size: int) -> None:
    text = f"one{separator}two".encode()
    assert payloads(*slices(b"data: " + text + b"\n\n", size)) == [text]
