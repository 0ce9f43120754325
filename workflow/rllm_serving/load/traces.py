"""Real traffic: when requests came elsewhere, and how long they were, from what others publish."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import special

from .servegen_files import Window, read_folder
from .trace_files import named, read_recording, too_few

Floats = NDArray[np.float64]

MOST_AT_ONCE = 10_000
"""Requests of a ServeGen window that are drawn at once, and ten times as many as are asked: a window of more is drawn
in equal parts."""
NARROWEST, WIDEST = 1e-6, 1e9
"""Shapes of gaps beyond which nothing changes any more: all requests in one moment, all gaps alike."""


@dataclass(frozen=True)
class Trace:
    """Requests of real traffic: times (s, ascending), prompt and output tokens of each (NaN where not told)."""

    times: Floats
    prompt_tokens: Floats
    output_tokens: Floats

    def first(self, count: int) -> Trace:
        """Its first `count` requests."""
        return Trace(self.times[:count], self.prompt_tokens[:count], self.output_tokens[:count])

    def by_time(self) -> Trace:
        """The same requests in the order of their times."""
        order = np.argsort(self.times, kind="stable")
        return Trace(self.times[order], self.prompt_tokens[order], self.output_tokens[order])


class Traffic(Protocol):
    """A trace that has been read.

    Attributes:
        notes: what was done to its requests: name -> number, for the record of the arrivals.
    """

    notes: dict[str, float]

    def requests(self, start_s: float, count: int, seed: int) -> Trace:
        """Return `count` requests from `start_s` on, seconds counted from the trace's first request.

        Raises:
            ArrivalError: where there are not so many.
        """
        ...


class RecordedTraffic:
    """The requests of a recorded trace, each as it came.

    Where all times of a BurstGPT trace are whole seconds, as it publishes them, a request came at some moment of its
    second: which one is drawn, evenly.
    """

    def __init__(self, source: str, path: Path) -> None:
        recording = read_recording(source, path)
        self._path = path
        times = np.array(recording.times)
        self._trace = Trace(
            times - times.min(), np.array(recording.prompt_tokens), np.array(recording.output_tokens)
        ).by_time()
        self._spread_s = 1.0 if source == "burstgpt" and not (times % 1).any() else 0.0
        self.notes: dict[str, float] = {
            "spread_s": self._spread_s,
            "sorted_rows": recording.unsorted,
            "failed_rows": recording.failed,
        }

    def requests(self, start_s: float, count: int, seed: int) -> Trace:
        """See `Traffic`."""
        begin = int(np.searchsorted(self._trace.times, start_s))
        later = Trace(self._trace.times[begin:], self._trace.prompt_tokens[begin:], self._trace.output_tokens[begin:])
        if len(later.times) < count:
            raise too_few(self._path, len(later.times), start_s, count)
        if self._spread_s:
            moments = later.times + self._spread_s * np.random.default_rng(seed).random(len(later.times))
            later = Trace(moments, later.prompt_tokens, later.output_tokens).by_time()
        return later.first(count)


class ServegenTraffic:
    """Traffic drawn as ServeGen publishes it: clients, superposed.

    As in ServeGen itself, a client has as many requests in a window as its rate says, and gaps drawn from its
    distribution are rescaled to fill the window: the published scale plays no part. Lengths are drawn from its
    distributions of prompt and output tokens, independently (the source has no joint one).
    """

    def __init__(self, path: Path) -> None:
        self._folder = read_folder(path)
        self._lengths = cache(self._read_lengths)
        self.notes: dict[str, float] = {"sorted_rows": sum(client.unsorted for client in self._folder.clients)}

    def requests(self, start_s: float, count: int, seed: int) -> Trace:
        """See `Traffic`."""
        folder, begin = self._folder, self._folder.starts[0] + start_s
        # Counts are whole: each client may have one request fewer or more than its rate says.
        if folder.expected(start_s) + len(folder.clients) < count:
            raise too_few(folder.path, folder.expected(start_s), start_s, count)
        generator = np.random.default_rng(seed)
        processes = [_Renewal(generator) for _ in folder.clients]
        parts: list[tuple[Floats, Floats, Floats]] = []
        found = 0
        for window, start, width in self._parts(begin, count):
            for number, (client, process) in enumerate(zip(folder.clients, processes, strict=True)):
                if window not in client.windows:
                    continue
                times = start + process.requests(client.windows[window], width)
                prompts, outputs = self._draw_lengths(generator, number, window, len(times))
                later = times >= begin
                parts.append((times[later], prompts[later], outputs[later]))
                found += int(later.sum())
            if found >= count:
                break
        if found < count:
            raise too_few(folder.path, found, start_s, count)
        times, prompts, outputs = (np.concatenate(column) for column in zip(*parts, strict=True))
        return Trace(times, prompts, outputs).by_time().first(count)

    def _parts(self, begin: float, count: int) -> Iterator[tuple[float, float, float]]:
        """Yield what is drawn at once, from the moment `begin` on: its window's start, its own start and width (s)."""
        folder = self._folder
        for window in folder.starts:
            if window + folder.width <= begin:
                continue
            number = math.ceil(folder.rate(window) * folder.width / max(MOST_AT_ONCE, 10 * count))
            width = folder.width / number
            for part in range(max(0, int((begin - window) / width)), number):
                yield window, window + part * width, width

    def _draw_lengths(
        self, generator: np.random.Generator, client: int, window: float, count: int
    ) -> tuple[Floats, Floats]:
        """Prompt and output tokens of `count` requests of a client; NaN where it publishes none."""
        start = self._folder.clients[client].lengths_from(window)
        if start is None:
            return np.full(count, np.nan), np.full(count, np.nan)
        prompts, outputs = (
            tokens[generator.choice(len(tokens), count, p=weights)] for tokens, weights in self._lengths(client, start)
        )
        return prompts, outputs

    def _read_lengths(self, client: int, start: float) -> list[tuple[Floats, Floats]]:
        """Tokens and their probabilities, of prompts and of outputs."""
        found = []
        for distribution in self._folder.clients[client].lengths(start):
            weights = np.array(list(distribution.values()))
            found.append((np.array(list(distribution)), weights / weights.sum()))
        return found


class _Renewal:
    """Requests of one client, window after window: a renewal process that has been going on before the first.

    A window begins and ends within a gap, and not with a request: long gaps are more likely to be the one that a given
    moment is in, so that as many requests come near the ends of a window as in its middle. Which share of that gap is
    over, and how long it is among such gaps, goes on from window to window. Where a rate makes no whole number of
    requests, that share also decides which windows have one more.
    """

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator
        self._left = generator.random()
        self._rank = generator.random()

    def requests(self, window: Window, width: float) -> Floats:
        """Times of its requests in the next `width` seconds, from their start (s), ascending."""
        expected = window.rate * width
        count = max(0, math.ceil(expected - self._left))
        first, self._left = self._left, self._left + count - expected
        if count == 0:
            return np.empty(0)
        over_the_ends, between = self._gaps(window, count - 1)
        times = np.cumsum(np.concatenate([[first * over_the_ends], between]))
        return times * (width / (times[-1] + (1 - self._left) * over_the_ends))

    def _gaps(self, window: Window, count: int) -> tuple[float, Floats]:
        """The gap that windows begin and end in, and `count` others, all in one unit.

        The former is of the length-biased distribution: of a gap g with density f(g), it has g f(g) / mean.
        """
        shape = min(max(window.shape, NARROWEST), WIDEST)
        if window.gaps == "Gamma":
            return float(special.gammaincinv(shape + 1, self._rank)), self._generator.gamma(shape, size=count)
        # A power of an exponential variable; by logarithms, for such powers can be larger than any number.
        powers = np.concatenate(
            [[special.gammaincinv(1 + 1 / shape, self._rank)], self._generator.exponential(size=count)]
        )
        logs = np.log(powers) / shape
        gaps = np.exp(logs - logs.max())
        return float(gaps[0]), gaps[1:]


def open_trace(name: str, spec: Mapping[str, Any]) -> Traffic:
    """Read an entry of the config's `traces`.

    Raises:
        ArrivalError: for the first fault, with the entry's key, file and row.
    """
    path = Path(spec["path"]).expanduser()
    with named(name):
        return ServegenTraffic(path) if spec["source"] == "servegen" else RecordedTraffic(spec["source"], path)
