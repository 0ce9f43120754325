"""Recorded traffic as others publish it, read row by row; what is wrong in a file is told with its row.

No numbers are computed here and no package is needed: the dry run reads the head of every trace.
"""

from __future__ import annotations

import csv
import json
import math
import re
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from ..errors import UserError

HEAD = 10_000
"""Rows of a recorded trace that the dry run reads."""
MOST_TOKENS = 10_000_000
"""More tokens than any model's context has: such a length is a mistake."""
_LONGEST_LINE = 1_000_000
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
SECONDS = "seconds, a finite number from 0 (without separators)"
TOKENS = f"tokens, a whole number from 0 to {MOST_TOKENS} (without separators)"
MILLISECONDS = "milliseconds, a finite number from 0"
DATE_TIME = "date and time, as 2023-11-16 18:15:46.68"

Row = tuple[float, float, float]
"""Of a request: time (s), prompt tokens, output tokens (NaN where they are not told)."""


class ArrivalError(UserError):
    """A trace or a capacity that no arrivals can be made of; the message says which file and why."""


@dataclass(frozen=True)
class Recording:
    """Requests of a recorded trace, in the order of its file, or the first of them.

    Attributes:
        times: s, on the trace's own clock; `prompt_tokens` and `output_tokens` of the same requests.
        unsorted: rows whose time is before that of the row above.
        failed: rows without a single output token, which failed there and are left out.
        complete: whether the file was read to its end.
    """

    times: array[float]
    prompt_tokens: array[float]
    output_tokens: array[float]
    unsorted: int
    failed: int
    complete: bool


def fault(path: Path, row: int, value: object, expected: str, column: str = "") -> ArrivalError:
    """Return the error for a value in a row of a file (from 1, a header counts)."""
    text = repr(value)
    text = text if len(text) <= 60 else f"{text[:57]}..."
    return ArrivalError(f"{path}, row {row}: {f'{column} is ' * bool(column)}{text}; expected {expected}")


def too_few(path: Path, found: float, start_s: float, count: int) -> ArrivalError:
    """Return the error for a trace that ends too early."""
    return ArrivalError(
        f"{path}: {found:.0f} requests from second {start_s:g} on, {count} are asked; start earlier, or ask fewer"
    )


@contextmanager
def named(trace: str) -> Iterator[None]:
    """Put a trace's key in the config before what is wrong with it."""
    try:
        yield
    except ArrivalError as error:
        raise ArrivalError(f"traces.{trace}.path: {error}") from None


def read_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a text file.

    Raises:
        ArrivalError: for a folder, a file that cannot be read, and text that is not UTF-8.
    """
    if path.is_dir():
        raise ArrivalError(f"{path}: is a folder; expected a file")
    try:
        with path.open("rb") as file:
            for row, line in enumerate(iter(lambda: file.readline(_LONGEST_LINE), b""), 1):
                if len(line) == _LONGEST_LINE:
                    raise ArrivalError(f"{path}, row {row}: has {_LONGEST_LINE} bytes and more; expected a text file")
                try:
                    yield line.decode("utf-8-sig" if row == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise fault(path, row, line[error.start : error.start + 1], "UTF-8 text") from None
    except OSError as error:
        raise ArrivalError(f"{path}: {error.strerror}; expected a file that can be read") from None


def read_csv(path: Path, expected: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the fields of each row of a CSV file that is not blank.

    Args:
        path: the file.
        expected: what its rows are, for the message.

    Raises:
        ArrivalError: as `read_lines`, and for what is no CSV or has no row.
    """
    reader = csv.reader(read_lines(path), strict=True)
    empty = True
    try:
        for fields in reader:
            if any(field.strip() for field in fields):
                empty = False
                yield reader.line_num, fields
    except csv.Error as error:
        raise ArrivalError(f"{path}, row {reader.line_num}: {error}; expected comma-separated values") from None
    if empty:
        raise ArrivalError(f"{path}: is empty; expected {expected}")


def to_number(value: object) -> float:
    """Return a number of a file, or a text that is one; NaN for anything else."""
    if isinstance(value, str):
        return float(value) if _NUMBER.fullmatch(value.strip()) else math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf


def is_length(number: float) -> bool:
    """Whether a number can be a request's tokens."""
    return 0 <= number <= MOST_TOKENS and number.is_integer()


def _columns(path: Path, names: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of each row of a CSV file with a header, and its fields in these columns."""
    rows = read_csv(path, f"a header row with {', '.join(names)}")
    number, header = next(rows)
    given = [name.strip().lower() for name in header]
    if missing := [name for name in names if name.lower() not in given]:
        raise ArrivalError(
            f"{path}, row {number}: no column {', '.join(map(repr, missing))}; expected a header row with "
            f"{', '.join(names)}"
        )
    places = [given.index(name.lower()) for name in names]
    for number, fields in rows:
        if len(fields) != len(header):
            raise ArrivalError(
                f"{path}, row {number}: has {len(fields)} fields; expected {len(header)}, as many as the header row"
            )
        yield number, [fields[place] for place in places]


def _tokens(path: Path, row: int, column: str, value: object) -> float:
    number = to_number(value)
    if not is_length(number):
        raise fault(path, row, value, TOKENS, column)
    return number


def _csv_requests(path: Path, names: Sequence[str], read_time: Callable[[str], float], expected: str) -> Iterator[Row]:
    """Yield the requests of a CSV file: its columns of times, prompt tokens and output tokens."""
    for row, fields in _columns(path, names):
        time = read_time(fields[0])
        if not math.isfinite(time):
            raise fault(path, row, fields[0], expected, names[0])
        prompt, output = (_tokens(path, row, *pair) for pair in zip(names[1:], fields[1:], strict=True))
        yield time, prompt, output


def _from_zero(value: object) -> float:
    number = to_number(value)
    return number if number >= 0 else math.nan


def _burstgpt(path: Path) -> Iterator[Row]:
    names = ("Timestamp", "Request tokens", "Response tokens")
    return _csv_requests(path, names, _from_zero, SECONDS)


def _date_time(text: str) -> float:
    """Seconds since 1970; times without a zone are UTC. NaN for what is no date with a time."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return math.nan
    if ":" not in text:
        return math.nan
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _azure(path: Path) -> Iterator[Row]:
    return _csv_requests(path, ("TIMESTAMP", "ContextTokens", "GeneratedTokens"), _date_time, DATE_TIME)


def _mooncake(path: Path) -> Iterator[Row]:
    expected = "a request: {timestamp (ms), input_length, output_length}, a JSON object a line"
    for row, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            raise fault(path, row, line.strip(), expected) from None
        if not isinstance(entry, dict) or "timestamp" not in entry:
            raise fault(path, row, line.strip(), expected)
        time = math.nan if isinstance(entry["timestamp"], str) else _from_zero(entry["timestamp"])
        if not math.isfinite(time):
            raise fault(path, row, entry["timestamp"], MILLISECONDS, "timestamp")
        yield (
            time / 1000,
            _json_tokens(path, row, entry, "input_length"),
            _json_tokens(path, row, entry, "output_length"),
        )


def _json_tokens(path: Path, row: int, entry: dict[str, object], name: str) -> float:
    value = entry.get(name)
    if value is None:
        return math.nan
    if isinstance(value, str):
        raise fault(path, row, value, TOKENS, name)
    return _tokens(path, row, name, value)


RECORDED: dict[str, Callable[[Path], Iterator[Row]]] = {"azure": _azure, "burstgpt": _burstgpt, "mooncake": _mooncake}
"""Source of a recorded trace -> what reads its requests."""


def _has_more(requests: Iterator[Row]) -> bool:
    """Whether a file goes on, with a request or with something else, which nobody asked for."""
    try:
        return next(requests, None) is not None
    except ArrivalError:
        return True


def read_recording(source: str, path: Path, rows: int | None = None) -> Recording:
    """Return the requests of a recorded trace.

    Args:
        source: a key of RECORDED.
        path: its file.
        rows: how many rows to read at most; None: all.

    Raises:
        ArrivalError: for the first row that is no request, and for a file without any.
    """
    columns = times, prompts, outputs = array("d"), array("d"), array("d")
    unsorted = failed = 0
    before = -math.inf
    requests = RECORDED[source](path)
    for request in islice(requests, rows):
        unsorted += request[0] < before
        before = request[0]
        if request[2] == 0:
            failed += 1
            continue
        for column, value in zip(columns, request, strict=True):
            column.append(value)
    complete = rows is None or not _has_more(requests)
    if not times:
        raise ArrivalError(f"{path}: no request with an answer in it; expected at least one")
    return Recording(times, prompts, outputs, unsorted, failed, complete)
