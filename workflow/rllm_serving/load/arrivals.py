"""When requests arrive in open-loop loads: drawn from a renewal process, or taken from real traffic.

Every time is in seconds since the point's start. One file an experiment holds the arrivals of all its points, so that
all servers compared get the same ones; see `schedule_arrivals`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..study.design import Point
from .trace_files import ArrivalError, named
from .traces import Floats, open_trace

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

LENGTH_QUANTILE = 0.95
"""Quantile of a trace's answers that takes the budget where they do not all fit; longer ones are cut to it."""


def gamma_arrivals(count: int, rate: float, shape: float, seed: int) -> Floats:
    """`count` arrival times of a Gamma renewal process: gaps of mean 1 / rate with coefficient of variation shape^-1/2.

    Shape 1 is Poisson, below 1 bursty. The gaps are scaled so that the last request arrives at count / rate exactly,
    as vLLM's `--burstiness` does: a share of capacity is then the same share with every seed.
    """
    gaps = np.random.default_rng(seed).gamma(shape, 1.0, count)
    times = np.cumsum(gaps)
    return times * (count / rate / times[-1])


def rescale_to_rate(times: Floats, rate: float) -> tuple[Floats, float]:
    """Times scaled so that their mean rate is `rate` (the last at count / rate), and the factor that did it."""
    span = times[-1] - times[0]
    if span <= 0:
        raise ArrivalError("all requests of the trace arrive at one moment; take more of them")
    # The first gap is not in the trace: the mean one stands for it, and the first request comes after it.
    shifted = times - times[0] + span / (len(times) - 1)
    factor = len(times) / rate / shifted[-1]
    return shifted * factor, float(factor)


def match_by_length_rank(prompt_tokens: Floats, questions: Sequence[str], generator: np.random.Generator) -> list[int]:
    """For each request the question whose length has the same rank: the longest prompts get the longest questions.

    Where the trace tells no length, questions come in their own order.
    """
    if np.isnan(prompt_tokens).any():
        return [number % len(questions) for number in range(len(prompt_tokens))]
    longest = np.argsort([len(text) for text in questions], kind="stable")
    # Equal lengths are ranked by chance, or one question would get all of them.
    rank = np.lexsort((generator.random(len(prompt_tokens)), prompt_tokens)).argsort()
    return [int(longest[place]) for place in rank * len(questions) // len(prompt_tokens)]


def arrival_seed(study_seed: int, point: Point) -> int:
    """Seed of a point's arrivals: another for every dataset, load, budget and repeat, the same on every server."""
    text = f"{study_seed}/arrivals/{point.name}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big")


def schedule_arrivals(
    points: Sequence[Point],
    questions: Mapping[str, Sequence[str]],
    sources: Mapping[str, Mapping[str, Any]],
    rates: Mapping[str, float],
    seed: int,
) -> tuple[pa.Table, list[dict[str, Any]]]:
    """The arrivals of all points whose loads are open-loop, and what each was made with.

    questions: texts of each dataset; sources: the config's `traces`; rates: capacity of each server (requests/s);
    a load's share is one of the slowest server's. Returns a table of SCHEMA, and for each point its keys with `rate`
    (requests/s) and `seed`; of a trace `time_factor` (seconds here for one of the trace), what was done to its rows
    (`Traffic.notes`) and, where lengths are replayed, what `scale_lengths` says.
    """
    rows: list[dict[str, Any]] = []
    made = []
    traffic = {name: open_trace(name, spec) for name, spec in sources.items()}
    for point in (point for point in points if point.load.open_loop):
        load, texts = point.load, questions[point.dataset][: point.num_questions]
        rate = load.rate if load.rate is not None else load.requests_per_s(min(rates.values()))
        count, drawn = len(texts) * point.n_samples, arrival_seed(seed, point)
        questions_in_order = [(number, sample) for number in range(len(texts)) for sample in range(point.n_samples)]
        outputs: list[int | None] = [None] * count
        notes: dict[str, Any] = {}
        if load.trace is None:
            assert load.burstiness is not None
            times = gamma_arrivals(count, rate, load.burstiness, drawn)
        else:
            with named(load.trace):
                real = traffic[load.trace].requests(sources[load.trace]["start_s"], count, drawn)
                times, time_factor = rescale_to_rate(real.times, rate)
            notes = {"time_factor": time_factor, **traffic[load.trace].notes}
            if load.replay_output_lengths:
                if np.isnan(real.output_tokens).any():
                    raise ArrivalError(
                        f"traces.{load.trace}: a request without its output tokens; set replay_output_lengths: false"
                    )
                outputs, scaled = scale_lengths(real.output_tokens, point.budget)
                notes |= scaled
                questions_in_order = _with_sample_numbers(
                    match_by_length_rank(real.prompt_tokens, texts, np.random.default_rng(drawn))
                )
        keys = {"dataset": point.dataset, "load": load.name, "budget": point.budget, "repeat": point.repeat}
        for index, (time, (question, sample), output) in enumerate(
            zip(times, questions_in_order, outputs, strict=True)
        ):
            request = {"index": index, "time": float(time), "question": question, "sample": sample}
            rows.append({**keys, **request, "output_tokens": output})
        made.append({**keys, "rate": rate, "seed": drawn, **notes})
    return pa.Table.from_pylist(rows, schema=SCHEMA), made


def scale_lengths(tokens: Floats, budget: int) -> tuple[list[int | None], dict[str, float]]:
    """Return a trace's answer lengths as a budget has them, and how they became that.

    Where not all fit, they are scaled so that their LENGTH_QUANTILE takes the budget: by the longest alone, one
    request of a heavy tail would leave one token to most. What is longer is cut to the budget, what is shorter than a
    token gets one.

    Returns:
        tokens of each answer; `length_factor` (tokens here for one of the trace), `length_quantile`, and of the answers
        the numbers `at_one` and `at_budget` that are 1 token long and as long as the budget.
    """
    factor = min(1.0, budget / max(1.0, float(np.quantile(tokens, LENGTH_QUANTILE))))
    lengths = np.clip(np.rint(tokens * factor), 1, budget).astype(int)
    at_one, at_budget = (int((lengths == length).sum()) for length in (1, budget))
    notes = {"length_factor": factor, "length_quantile": LENGTH_QUANTILE, "at_one": at_one, "at_budget": at_budget}
    return lengths.tolist(), notes


def _with_sample_numbers(questions: Sequence[int]) -> list[tuple[int, int]]:
    times_asked: dict[int, int] = {}
    numbered = []
    for question in questions:
        numbered.append((question, times_asked.get(question, 0)))
        times_asked[question] = times_asked.get(question, 0) + 1
    return numbered


def arrivals_for(path: Path, point: Point) -> list[dict[str, Any]]:
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
