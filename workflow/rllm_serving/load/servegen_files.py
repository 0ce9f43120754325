"""ServeGen's folder of one model: clients, their windows and lengths; what is wrong is told with file and row.

A client is two files: `chunk-N-trace.csv` has a row a window (start in s, rate in requests/s, coefficient of
variation, distribution of the gaps, its shape and scale), `chunk-N-dataset.json` the distributions of lengths from some
windows on.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from .trace_files import SECONDS, ArrivalError, fault, is_length, read_csv, read_lines, to_number

COLUMNS = "time_s,rate,cv,distribution,shape,scale"
GAPS = ("Gamma", "Weibull")
LENGTHS = ("input_tokens", "output_tokens")
MOST_PER_S = 1_000_000
"""More requests/s than any client sends: such a rate is a mistake."""
_WINDOW_S = 600.0
"""Of a folder whose clients have one window each."""


@dataclass(frozen=True)
class Window:
    """A client's requests for a while: requests/s, and distribution ("Gamma" or "Weibull") and shape of their gaps."""

    rate: float
    gaps: str
    shape: float


@dataclass(frozen=True)
class Client:
    """One client.

    Attributes:
        file: its file of lengths.
        starts: s, of all its windows, ascending.
        windows: start (s) -> its requests; those without any are left out.
        published: start (s) -> what its file of lengths has for the windows from there on.
        unsorted: windows whose row is below that of a later one.
    """

    file: Path
    starts: tuple[float, ...]
    windows: Mapping[float, Window]
    published: Mapping[float, Mapping[str, Any]]
    unsorted: int

    @cached_property
    def _told(self) -> list[float]:
        """Starts from which on lengths of both kinds are told (s)."""
        return [key for key, entry in self.published.items() if all(_text(entry[name]) for name in LENGTHS)]

    def lengths_from(self, start: float) -> float | None:
        """Start of the lengths that hold in a window: the last ones before, as ServeGen has it; None: none are told."""
        return max((key for key in self._told if key <= start), default=None)

    def lengths(self, start: float) -> list[dict[float, float]]:
        """Distributions (tokens -> weight) of prompt and output lengths that begin at `start`.

        Raises:
            ArrivalError: for what is no distribution.
        """
        return [self._distribution(start, name) for name in LENGTHS]

    def _distribution(self, start: float, name: str) -> dict[float, float]:
        published = self.published[start][name]
        place, expected = f"{self.file}, window {start:g}, {name}", "{tokens: probability, ...}"
        if isinstance(published, Mapping):
            pairs = [[str(key), str(value)] for key, value in published.items()]
        else:
            # The published file writes its dictionaries as text.
            pairs = [pair.split(":", 1) for pair in _text(published).split(",")]
        numbers: dict[float, float] = {}
        for pair in pairs:
            tokens, weight = (to_number(pair[0]), to_number(pair[-1])) if len(pair) == 2 else (math.nan, math.nan)
            if not is_length(tokens) or not 0 <= weight < math.inf:
                raise ArrivalError(f"{place}: has {':'.join(pair)[:60]!r}; expected {expected}")
            numbers[tokens] = weight
        if not sum(numbers.values()) > 0:
            raise ArrivalError(f"{place}: its probabilities sum to 0; expected {expected}")
        return numbers


def _text(published: object) -> str:
    """A distribution without the braces and blanks around it; empty where nothing is told."""
    return str(published).strip().removeprefix("{").removesuffix("}").strip()


@dataclass(frozen=True)
class Folder:
    """A ServeGen model: its clients.

    Attributes:
        path: its folder.
        clients: in the order of their numbers.
    """

    path: Path
    clients: tuple[Client, ...]

    @cached_property
    def starts(self) -> list[float]:
        """Starts of the windows (s) in which there are requests, ascending."""
        return sorted({start for client in self.clients for start in client.windows})

    @cached_property
    def width(self) -> float:
        """Length of a window (s): what most of them are apart."""
        apart = Counter(after - before for client in self.clients for before, after in pairwise(client.starts))
        return apart.most_common(1)[0][0] if apart else _WINDOW_S

    def rate(self, start: float) -> float:
        """Requests/s of all clients in the window that begins at `start` (s)."""
        return sum(client.windows[start].rate for client in self.clients if start in client.windows)

    def expected(self, start_s: float) -> float:
        """Requests from `start_s` on, counted from the first window with requests."""
        begin = self.starts[0] + start_s
        lasting = ((start, min(self.width, start + self.width - begin)) for start in self.starts)
        return sum(self.rate(start) * rest for start, rest in lasting if rest > 0)


def read_folder(path: Path) -> Folder:
    """Return a ServeGen model.

    Raises:
        ArrivalError: for what is no such folder, a file that is not there or broken, a folder without requests.
    """
    if not path.is_dir():
        raise ArrivalError(f"{path}: is a file; expected the folder of one ServeGen model, of chunk-N-trace.csv")
    numbers = {kind: _numbers(path, kind) for kind in ("trace.csv", "dataset.json")}
    every = sorted({*numbers["trace.csv"], *numbers["dataset.json"]})
    if not every:
        raise ArrivalError(f"{path}: no chunk-N-trace.csv in it; expected the folder of one ServeGen model")
    for kind, found in numbers.items():
        if missing := [number for number in every if number not in found]:
            raise ArrivalError(
                f"{path}/chunk-{missing[0]}-{kind}: is missing; expected a trace.csv and a dataset.json of each client"
            )
    folder = Folder(path, tuple(_client(path, number) for number in every))
    if not folder.starts:
        raise ArrivalError(f"{path}: all rates are 0; expected a client with requests")
    return folder


def _numbers(path: Path, kind: str) -> list[int]:
    numbers = []
    for file in path.glob(f"chunk-*-{kind}"):
        match = re.fullmatch(rf"chunk-(\d+)-{re.escape(kind)}", file.name, re.ASCII)
        if match is None or str(int(match[1])) != match[1]:
            raise ArrivalError(f"{file}: has no number for a client; expected chunk-N-{kind}")
        numbers.append(int(match[1]))
    return numbers


def _client(path: Path, number: int) -> Client:
    file, lengths = path / f"chunk-{number}-trace.csv", path / f"chunk-{number}-dataset.json"
    rows: dict[float, Window] = {}
    unsorted, latest = 0, 0.0
    for row, fields in read_csv(file, f"rows of {COLUMNS}"):
        if len(fields) != 6:
            raise ArrivalError(f"{file}, row {row}: has {len(fields)} fields; expected 6: {COLUMNS}")
        start, window = _window(file, row, [field.strip() for field in fields])
        if start in rows:
            raise fault(file, row, fields[0], "a window once", "time_s")
        unsorted += start < latest
        latest = max(latest, start)
        rows[start] = window
    busy = {start: window for start, window in sorted(rows.items()) if window.rate > 0}
    return Client(lengths, tuple(sorted(rows)), busy, _published(lengths), unsorted)


def _window(file: Path, row: int, fields: list[str]) -> tuple[float, Window]:
    """Start and requests of a window."""
    start, rate, shape = (to_number(fields[place]) for place in (0, 1, 4))
    if not 0 <= start < math.inf:
        raise fault(file, row, fields[0], f"{SECONDS}; there is no header row", "time_s")
    if not 0 <= rate <= MOST_PER_S:
        raise fault(file, row, fields[1], f"requests/s, a number from 0 to {MOST_PER_S}", "rate")
    if rate > 0 and fields[3] not in GAPS:
        raise fault(file, row, fields[3], " or ".join(GAPS), "distribution")
    if rate > 0 and not 0 < shape < math.inf:
        raise fault(file, row, fields[4], "a finite number above 0", "shape")
    return start, Window(rate, fields[3], shape)


def _published(file: Path) -> dict[float, Mapping[str, Any]]:
    """Start (s) -> lengths, as they stand in a client's file."""
    expected = f"{{start in s: {{{', '.join(LENGTHS)}}}}}"
    try:
        entries = json.loads("".join(read_lines(file)))
    except json.JSONDecodeError as error:
        raise ArrivalError(f"{file}, row {error.lineno}: {error.msg}; expected JSON, {expected}") from None
    except (ValueError, RecursionError) as error:
        raise ArrivalError(f"{file}: {error}; expected JSON, {expected}") from None
    if not isinstance(entries, Mapping):
        raise ArrivalError(f"{file}: is no mapping; expected {expected}")
    for key, entry in entries.items():
        if not 0 <= to_number(key) < math.inf:
            raise ArrivalError(f"{file}: has the key {key[:60]!r}; expected {expected}")
        if not isinstance(entry, Mapping) or not all(isinstance(entry.get(name), str | Mapping) for name in LENGTHS):
            raise ArrivalError(f"{file}, window {key}: has no distributions of lengths; expected {expected}")
    return {to_number(key): entry for key, entry in entries.items()}
