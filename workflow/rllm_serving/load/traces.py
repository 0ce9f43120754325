"""Real traffic: when requests came elsewhere, and how long they were, read from what others publish."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import UserError

Floats = NDArray[np.float64]


class ArrivalError(UserError):
    """A trace or a capacity that no arrivals can be made of; the message says which file and why."""


@dataclass(frozen=True)
class Trace:
    """Real traffic: arrival times (s, ascending), prompt and output tokens of each request (NaN where not told)."""

    times: Floats
    prompt_tokens: Floats
    output_tokens: Floats

    @classmethod
    def of(cls, rows: Iterable[tuple[float, float, float]]) -> Trace:
        """From (time, prompt tokens, output tokens) in any order."""
        table = np.array(sorted(rows, key=lambda row: row[0]), dtype=np.float64).reshape(-1, 3)
        return cls(table[:, 0], table[:, 1], table[:, 2])


def servegen(folder: Path, start_s: float, count: int, seed: int) -> Trace:
    """Traffic as ServeGen publishes it: clients (`chunk-N-trace.csv`, `-dataset.json`), superposed.

    In each window of a client, gaps are drawn from a Gamma or Weibull distribution (see `_Renewal`) of its shape and
    of mean 1 / rate, as ServeGen itself does: the scale that stands beside the shape describes gaps within the window,
    and gives other rates where all requests came in one burst. Lengths are drawn from its distributions of prompt and
    output tokens, independently (the source has no joint one). Windows are followed from `start_s` on until `count`
    requests have come. Raises ArrivalError for a folder without clients, or one whose traffic ends before.
    """
    clients = []
    for trace in sorted(folder.glob("chunk-*-trace.csv"), key=lambda path: int(path.name.split("-")[1])):
        rows = [row for row in csv.reader(trace.read_text().splitlines()) if row]
        lengths = json.loads(trace.with_name(trace.name.replace("trace.csv", "dataset.json")).read_text())
        clients.append(({float(row[0]): row for row in rows}, {float(key): value for key, value in lengths.items()}))
    if not clients:
        raise ArrivalError(f"{folder}: no chunk-N-trace.csv in it; give the folder of one ServeGen model")
    starts = sorted({start for windows, _ in clients for start in windows})
    width = float(np.min(np.diff(starts))) if len(starts) > 1 else 600.0
    generator = np.random.default_rng(seed)
    requests: list[tuple[float, float, float]] = []
    processes = [_Renewal(generator) for _ in clients]
    for start in (start for start in starts if start + width > start_s):
        for process, (windows, lengths) in zip(processes, clients, strict=True):
            row = windows.get(start)
            rate = float(row[1]) if row is not None and row[3] else 0.0
            gaps = _Gaps(row[3], float(row[4]), 1 / rate) if row is not None and rate > 0 else None
            times = start + process.window(gaps, width)
            if not len(times):
                continue
            distributions = lengths.get(max((key for key in lengths if key <= start), default=-1.0))
            prompts, outputs = (
                _draw_lengths(generator, (distributions or {}).get(name), len(times)) for name in _SERVEGEN_LENGTHS
            )
            requests += [request for request in zip(times, prompts, outputs, strict=True) if request[0] >= start_s]
        if len(requests) >= count:
            return _first_requests(Trace.of(requests), count)
    raise ArrivalError(
        f"{folder}: {len(requests)} requests from second {start_s:g} on, {count} are asked; start earlier"
    )


_SERVEGEN_LENGTHS = ("input_tokens", "output_tokens")


@dataclass(frozen=True)
class _Gaps:
    """Distribution of the gaps between a client's requests: "Gamma" or "Weibull", shape, mean (s)."""

    name: str
    shape: float
    mean: float

    def __post_init__(self) -> None:
        if self.name not in ("Gamma", "Weibull"):
            raise ArrivalError(f"gaps of distribution {self.name!r} are not known; Gamma and Weibull are")

    @property
    def scale(self) -> float:
        """The distribution's scale (s)."""
        return self.mean / (self.shape if self.name == "Gamma" else math.gamma(1 + 1 / self.shape))

    def draw(self, generator: np.random.Generator, count: int) -> Floats:
        """`count` gaps (s)."""
        if self.name == "Gamma":
            return generator.gamma(self.shape, self.scale, count)
        return self.scale * generator.weibull(self.shape, count)

    def draw_residual(self, generator: np.random.Generator) -> float:
        """Time to the next request from a moment that has nothing to do with them: a uniform part of the gap it is in.

        Moments are more often in long gaps: that gap's distribution is length-biased, its density g f(g) / mean.
        """
        if self.name == "Gamma":
            biased = generator.gamma(self.shape + 1, self.scale)
        else:
            biased = self.scale * generator.gamma(1 + 1 / self.shape) ** (1 / self.shape)
        return float(biased * generator.random())


class _Renewal:
    """Requests of one client, window after window: a renewal process that has been going on before the first.

    The time to its next request carries over from window to window; where the gaps become others, it is stretched as
    their mean is. After a window without requests the client is as at the first one.
    """

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator
        self._gaps: _Gaps | None = None
        self._residual = 0.0

    def window(self, gaps: _Gaps | None, width: float) -> Floats:
        """Times of its requests in the next window, from the window's start (s), below `width`; gaps None: silent."""
        before, self._gaps = self._gaps, gaps
        if gaps is None:
            return np.empty(0)
        if before is None:
            self._residual = gaps.draw_residual(self._generator)
        else:
            self._residual *= gaps.mean / before.mean
        times = np.array([self._residual])
        while times[-1] < width:
            times = np.concatenate([times, times[-1] + np.cumsum(gaps.draw(self._generator, 256))])
        within = int(np.searchsorted(times, width))
        self._residual = float(times[within]) - width
        return times[:within]


def _draw_lengths(generator: np.random.Generator, distribution: Any, count: int) -> Floats:
    if not distribution:
        return np.full(count, np.nan)
    # The published file writes its dictionaries as text.
    pairs = distribution if isinstance(distribution, Mapping) else _literal(distribution)
    values = np.array([float(value) for value in pairs], dtype=np.float64)
    weights = np.array(list(pairs.values()), dtype=np.float64)
    return values[generator.choice(len(values), count, p=weights / weights.sum())]


def _literal(text: str) -> dict[float, float]:
    pairs = (pair.split(":") for pair in text.strip("{} \n").split(",") if pair.strip())
    return {float(value): float(weight) for value, weight in pairs}


def burstgpt(path: Path, start_s: float, count: int) -> Trace:
    """`count` requests of BurstGPT's CSV from `start_s` on, in either layout (with and without session columns).

    Rows without response tokens are requests that failed there; they are left out.
    """
    frame = pd.read_csv(path)
    names = {name.strip().lower(): name for name in frame.columns}
    try:
        time, prompt, output = (frame[names[key]] for key in ("timestamp", "request tokens", "response tokens"))
    except KeyError as missing:
        raise ArrivalError(f"{path}: no column {missing}; BurstGPT's CSV has it") from None
    rows = zip(time, prompt, output, strict=True)
    return _later_requests(path, [(t, p, o) for t, p, o in rows if o > 0], start_s, count)


def mooncake(path: Path, start_s: float, count: int) -> Trace:
    """`count` requests of a JSON-lines trace from `start_s` on: `timestamp` (ms), `input_length`, `output_length`."""
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            lengths = (float(entry.get(name) or np.nan) for name in ("input_length", "output_length"))
            rows.append((entry["timestamp"] / 1000, *lengths))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArrivalError(f"{path}, line {number}: no request of a Mooncake trace ({error!r})") from None
    return _later_requests(path, [(time, prompt, output) for time, prompt, output in rows], start_s, count)


def _later_requests(path: Path, rows: list[tuple[float, float, float]], start_s: float, count: int) -> Trace:
    later = [row for row in rows if row[0] >= start_s]
    if len(later) < count:
        raise ArrivalError(
            f"{path}: {len(later)} requests from second {start_s:g} on, {count} are asked; start earlier"
        )
    return _first_requests(Trace.of(later), count)


def _first_requests(traffic: Trace, count: int) -> Trace:
    return Trace(traffic.times[:count], traffic.prompt_tokens[:count], traffic.output_tokens[:count])


def read_trace(spec: Mapping[str, Any], count: int, seed: int) -> Trace:
    """The first `count` requests of an entry of the config's `traces`."""
    path = Path(spec["path"]).expanduser()
    if spec["source"] == "servegen":
        return servegen(path, spec["start_s"], count, seed)
    return {"burstgpt": burstgpt, "mooncake": mooncake}[spec["source"]](path, spec["start_s"], count)
