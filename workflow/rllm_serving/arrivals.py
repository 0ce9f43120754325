"""When requests arrive in loads with a clock of their own: drawn from a renewal process, or taken from real traffic.

Every time is in seconds since the point's start. One file an experiment holds the arrivals of all its points, so that
all servers compared get the same ones; see `plan`.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from .analysis import requests as measured
from .runs import Point

Floats = NDArray[np.float64]

SCHEMA = pa.schema(
    [
        ("dataset", pa.string()),
        ("load", pa.string()),
        ("budget", pa.int32()),
        ("repeat", pa.int32()),
        ("index", pa.int32()),
        ("time", pa.float64()),
        ("question", pa.int32()),
        ("sample", pa.int32()),
        ("output_tokens", pa.int32()),
    ]
)
"""A row a request, in the order that they are sent. time: s; question: its place in the dataset, from 0; sample: how
often it came before within the point; output_tokens: the length that the answer is made to have, null: its own."""


class ArrivalError(ValueError):
    """A trace or a capacity that no arrivals can be made of; the message says which file and why."""


def gamma(count: int, rate: float, shape: float, seed: int) -> Floats:
    """`count` arrival times of a Gamma renewal process: gaps of mean 1 / rate with coefficient of variation shape^-1/2.

    Shape 1 is Poisson, below 1 bursty. The gaps are scaled so that the last request arrives at count / rate exactly,
    as vLLM's `--burstiness` does: a share of capacity is then the same share with every seed.
    """
    gaps = np.random.default_rng(seed).gamma(shape, 1.0, count)
    times = np.cumsum(gaps)
    return times * (count / rate / times[-1])


@dataclass(frozen=True)
class Traffic:
    """Real traffic: arrival times (s, ascending), prompt and output tokens of each request (NaN where not told)."""

    times: Floats
    prompt_tokens: Floats
    output_tokens: Floats

    @classmethod
    def of(cls, rows: Iterable[tuple[float, float, float]]) -> Traffic:
        """From (time, prompt tokens, output tokens) in any order."""
        table = np.array(sorted(rows, key=lambda row: row[0]), dtype=np.float64).reshape(-1, 3)
        return cls(table[:, 0], table[:, 1], table[:, 2])


def servegen(folder: Path, start_s: float, count: int, seed: int) -> Traffic:
    """Traffic as ServeGen publishes it: clients (`chunk-N-trace.csv`, `-dataset.json`), superposed.

    In each window of a client, gaps are drawn from its Gamma or Weibull distribution (shape, scale in s), lengths from
    its own distributions of prompt and output tokens, independently (the source has no joint one). Windows are
    followed from `start_s` on until `count` requests have come. Raises ArrivalError for a folder without clients, or
    one whose traffic ends before.
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
    found: list[tuple[float, float, float]] = []
    for start in (start for start in starts if start + width > start_s):
        for windows, lengths in clients:
            row = windows.get(start)
            if row is None or not row[3]:
                continue
            times = start + _renewal(generator, row[3], float(row[4]), float(row[5]), width)
            held = lengths.get(max((key for key in lengths if key <= start), default=-1.0))
            prompts, outputs = (_draw(generator, (held or {}).get(name), len(times)) for name in _SERVEGEN_LENGTHS)
            found += [one for one in zip(times, prompts, outputs, strict=True) if one[0] >= start_s]
        if len(found) >= count:
            return _first(Traffic.of(found), count)
    raise ArrivalError(f"{folder}: {len(found)} requests from second {start_s:g} on, {count} are asked; start earlier")


_SERVEGEN_LENGTHS = ("input_tokens", "output_tokens")


def _renewal(generator: np.random.Generator, name: str, shape: float, scale: float, width: float) -> Floats:
    def draw(count: int) -> Floats:
        return generator.gamma(shape, scale, count) if name == "Gamma" else scale * generator.weibull(shape, count)

    if name not in ("Gamma", "Weibull"):
        raise ArrivalError(f"gaps of distribution {name!r} are not known; Gamma and Weibull are")
    times = np.empty(0)
    while not len(times) or times[-1] < width:
        last = times[-1] if len(times) else 0.0
        times = np.concatenate([times, last + np.cumsum(draw(256))])
    return times[times < width]


def _draw(generator: np.random.Generator, distribution: Any, count: int) -> Floats:
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


def burstgpt(path: Path, start_s: float, count: int) -> Traffic:
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
    return _from(path, [(t, p, o) for t, p, o in rows if o > 0], start_s, count)


def mooncake(path: Path, start_s: float, count: int) -> Traffic:
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
    return _from(path, [(time, prompt, output) for time, prompt, output in rows], start_s, count)


def _from(path: Path, rows: list[tuple[float, float, float]], start_s: float, count: int) -> Traffic:
    later = [row for row in rows if row[0] >= start_s]
    if len(later) < count:
        raise ArrivalError(
            f"{path}: {len(later)} requests from second {start_s:g} on, {count} are asked; start earlier"
        )
    return _first(Traffic.of(later), count)


def _first(traffic: Traffic, count: int) -> Traffic:
    return Traffic(traffic.times[:count], traffic.prompt_tokens[:count], traffic.output_tokens[:count])


def traffic(spec: Mapping[str, Any], count: int, seed: int) -> Traffic:
    """The first `count` requests of an entry of the config's `arrivals`."""
    path = Path(spec["path"]).expanduser()
    if spec["source"] == "servegen":
        return servegen(path, spec["start_s"], count, seed)
    return {"burstgpt": burstgpt, "mooncake": mooncake}[spec["source"]](path, spec["start_s"], count)


def stretched(times: Floats, rate: float) -> tuple[Floats, float]:
    """Times scaled so that their mean rate is `rate` (the last at count / rate), and the factor that did it."""
    span = times[-1] - times[0]
    if span <= 0:
        raise ArrivalError("all requests of the trace arrive at one moment; take more of them")
    # The first gap is not in the trace: the mean one stands for it, and the first request comes after it.
    shifted = times - times[0] + span / (len(times) - 1)
    factor = len(times) / rate / shifted[-1]
    return shifted * factor, float(factor)


def by_length(prompt_tokens: Floats, questions: Sequence[str], generator: np.random.Generator) -> list[int]:
    """For each request the question whose length has the same rank: the longest prompts get the longest questions.

    Where the trace tells no length, questions come in their own order.
    """
    if np.isnan(prompt_tokens).any():
        return [number % len(questions) for number in range(len(prompt_tokens))]
    longest = np.argsort([len(text) for text in questions], kind="stable")
    # Equal lengths are ranked by chance, or one question would get all of them.
    rank = np.lexsort((generator.random(len(prompt_tokens)), prompt_tokens)).argsort()
    return [int(longest[place]) for place in rank * len(questions) // len(prompt_tokens)]


def capacity(paths: Mapping[str, Path], dataset: str) -> dict[str, float]:
    """Requests a second that each server finished, with as many at once as its experiment has: server -> rate.

    Of the batch load with the largest size at the largest budget: successful requests / (last finish - first arrival),
    summed over repeats. Raises ArrivalError where a server finished none.
    """
    rates = {}
    for server, path in paths.items():
        frame = measured.latencies(measured.read(path))
        frame = frame[(frame["dataset"] == dataset) & frame["load"].str.startswith("batch-")]
        for name in ("load_size", "budget"):
            frame = frame[frame[name] == frame[name].max()]
        spans = frame.groupby("repeat").agg(start=("arrival", "min"), end=("end", "max"), ok=("ok", "sum"))
        seconds = float((spans["end"] - spans["start"]).sum())
        if not spans["ok"].sum() or seconds <= 0:
            raise ArrivalError(
                f"{path}: no request of {dataset} ended well in its batches; a share of it means nothing"
            )
        rates[server] = float(spans["ok"].sum()) / seconds
    return rates


def seed_of(study_seed: int, point: Point) -> int:
    """Seed of a point's arrivals: another for every dataset, load, budget and repeat, the same on every server."""
    text = f"{study_seed}/arrivals/{point.name}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big")


def plan(
    points: Sequence[Point],
    questions: Mapping[str, Sequence[str]],
    sources: Mapping[str, Mapping[str, Any]],
    rates: Mapping[str, float],
    seed: int,
) -> tuple[pa.Table, list[dict[str, Any]]]:
    """The arrivals of all points whose loads have a clock of their own, and what each was made with.

    questions: texts of each dataset; sources: the config's `arrivals`; rates: capacity of each server (requests/s);
    a load's share is one of the slowest server's. Returns a table of SCHEMA, and for each point its keys with `rate`
    (requests/s), `seed`, `time_factor` (seconds here for one of the trace) and `length_factor` (tokens here for one of
    the trace, so that its longest answer takes the budget).
    """
    rows: list[dict[str, Any]] = []
    made = []
    for point in (point for point in points if point.load.scheduled):
        load, texts = point.load, questions[point.dataset][: point.questions]
        rate = load.rate if load.rate is not None else load.share_of(min(rates.values()))
        count, drawn = len(texts) * point.samples, seed_of(seed, point)
        asked = [(number, sample) for number in range(len(texts)) for sample in range(point.samples)]
        outputs: list[int | None] = [None] * count
        time_factor = length_factor = None
        if load.arrivals is None:
            assert load.shape is not None
            times = gamma(count, rate, load.shape, drawn)
        else:
            real = traffic(sources[load.arrivals], count, drawn)
            times, time_factor = stretched(real.times, rate)
            if load.lengths:
                if np.isnan(real.output_tokens).any():
                    raise ArrivalError(
                        f"arrivals.{load.arrivals}: a request without its output tokens; set lengths: false"
                    )
                length_factor = min(1.0, point.budget / float(real.output_tokens.max()))
                outputs = [max(1, round(tokens * length_factor)) for tokens in real.output_tokens]
                asked = _numbered(by_length(real.prompt_tokens, texts, np.random.default_rng(drawn)))
        keys = {"dataset": point.dataset, "load": load.name, "budget": point.budget, "repeat": point.repeat}
        for index, (time, (question, sample), output) in enumerate(zip(times, asked, outputs, strict=True)):
            place = {"index": index, "time": float(time), "question": question, "sample": sample}
            rows.append({**keys, **place, "output_tokens": output})
        made.append({**keys, "rate": rate, "seed": drawn, "time_factor": time_factor, "length_factor": length_factor})
    return pa.Table.from_pylist(rows, schema=SCHEMA), made


def _numbered(questions: Sequence[int]) -> list[tuple[int, int]]:
    seen: dict[int, int] = {}
    found = []
    for question in questions:
        found.append((question, seen.get(question, 0)))
        seen[question] = seen.get(question, 0) + 1
    return found


def of_point(path: Path, point: Point) -> list[dict[str, Any]]:
    """A point's rows of an arrivals file, in the order that they are sent.

    Raises ArrivalError when the file has none, because it was made for another config.
    """
    table = pq.read_table(path)
    for name, value in (("dataset", point.dataset), ("load", point.load.name), ("budget", point.budget)):
        table = table.filter(pc.equal(table[name], value))
    rows = table.filter(pc.equal(table["repeat"], point.repeat)).sort_by("index").to_pylist()
    if not rows:
        raise ArrivalError(f"{path}: no arrivals of {point.name}; remove the file and call snakemake again")
    return rows
