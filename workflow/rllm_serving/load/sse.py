"""Server-sent events, cut out of the bytes of a stream as the HTML standard says.

Lines are cut on bytes, at LF, CR or CRLF and nowhere else: a chunk that splits a character or a line is no special
case, and what Unicode calls a line separator (U+2028, U+2029, U+0085) is text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Event(NamedTuple):
    """One event.

    Attributes:
        time: stamp of the piece that completed it.
        data: its data lines, joined with LF.
        name: its type; empty where the stream names none.
    """

    time: float
    data: bytes
    name: bytes


def events(stamps: Sequence[float], pieces: Sequence[bytes]) -> Iterator[Event]:
    """The events of a stream that carry data.

    Several data lines of one event are joined, comments and fields other than `data` and `event` are passed over, and
    so is a byte order mark before all. An event without data, or never completed by an empty line, is not yielded.

    Args:
        stamps: when each piece was received.
        pieces: the bytes of the stream.
    """
    data: list[bytes] = []
    name = b""
    first = True
    for stamp, line in _lines(stamps, pieces):
        if first:
            line, first = line.removeprefix(BYTE_ORDER_MARK), False
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif not line:
            if payload := b"\n".join(data):
                yield Event(stamp, payload, name)
            data, name = [], b""
        elif line == b"data":
            data.append(b"")
        elif line.startswith(b"event:"):
            name = line[6:].removeprefix(b" ")


def _lines(stamps: Sequence[float], pieces: Sequence[bytes]) -> Iterator[tuple[float, bytes]]:
    """The complete lines without their ends, each with the stamp of its end's last byte."""
    rest = b""
    held: float | None = None  # stamp of a piece that ended with CR: a LF that follows belongs to it
    for stamp, piece in zip(stamps, pieces, strict=True):
        if held is not None and piece:
            yield (stamp if piece.startswith(b"\n") else held), rest
            rest, held, piece = b"", None, piece.removeprefix(b"\n")
        text = rest + piece
        if b"\r" in text:
            if text.endswith(b"\r"):
                text, held = text[:-1], stamp
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = text.split(b"\n")
        for line in lines:
            yield stamp, line
    if held is not None:
        yield held, rest
