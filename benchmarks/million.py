"""Two runs of many requests, made up, in the files that a run has: see README.md, "How long large studies take".

python benchmarks/million.py FOLDER POINTS REQUESTS writes FOLDER/mine, FOLDER/other and the grades of both
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import islice, product
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rllm_serving.grading.grader import GRADE_SCHEMA
from rllm_serving.measurement.rows import REQUESTS, SERVER
from rllm_serving.schemas import SERVER_KEYS
from rllm_serving.study.design import Load

REPEATS = 4
LOADS = (Load("batch", 16), Load("batch", 64), Load("closed", 32), Load("open", rate=20.0, burstiness=0.5))
CHUNKS = (20, 101)  # chunks of an answer: from, to below
TOKENS_A_CHUNK = 4
FAILED, UNANSWERED = 0.01, 0.05
DIFFICULTIES, DOMAINS = 3, 7
SAMPLE_HZ = 5
TEXT = 400  # characters of thinking


def keys(points: int) -> Iterator[dict[str, Any]]:
    """Key columns of the points: as many datasets and budgets as it takes, every load, REPEATS starts each."""
    conditions = -(-points // REPEATS)
    datasets = 5 if conditions >= 50 else 1
    budgets = -(-conditions // (datasets * len(LOADS)))
    every = product(range(datasets), LOADS, range(budgets), range(REPEATS))
    for dataset, load, budget, repeat in islice(every, points):
        name = {"dataset": f"set-{dataset}", "load": load.name, "load_level": load.level}
        yield {**name, "budget": 256 * (budget + 1), "repeat": repeat, "start": repeat + 1, "restart": 0}


def _texts(prefix: str, numbers: Any) -> pa.Array:
    return pa.array(np.char.add(prefix, np.asarray(numbers).astype(str)))


def _lists(counts: Any, values: Any) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(np.append(0, np.cumsum(counts)).astype(np.int32)), pa.array(values))


def point(server: dict[str, str], at: dict[str, Any], count: int, seed: int) -> tuple[pa.Table, pa.Table, pa.Table]:
    """Requests, grades and samples of one point; the seed decides all of it."""
    rng = np.random.default_rng(seed)
    index = np.arange(count, dtype=np.int32)
    scheduled = at["load"].startswith("open")
    size = max(1, int(at["load_level"]))
    batch = index // size
    chunks = rng.integers(*CHUNKS, count)
    tokens = chunks * TOKENS_A_CHUNK
    step = rng.uniform(0.02, 0.06, count)
    took = chunks * step
    if scheduled:
        sent = np.cumsum(rng.exponential(1 / at["load_level"], count))
    elif at["load"].startswith("closed"):
        sent = np.concatenate([np.cumsum(np.append(0, took[k::size][:-1])) for k in range(size)])[:count]
        sent = np.sort(sent)
    else:
        longest = np.maximum.reduceat(took, np.arange(0, count, size)) + 1.0
        sent = np.append(0, np.cumsum(longest)[:-1])[batch]
    first = sent + rng.uniform(0.1, 0.5, count)
    ok = rng.random(count) >= FAILED
    answered = ok & (rng.random(count) >= UNANSWERED)
    last = first + took
    came = np.repeat(first, chunks) + (np.arange(chunks.sum()) - np.repeat(np.cumsum(chunks) - chunks, chunks)) * (
        np.repeat(step, chunks) * rng.uniform(0.9, 1.0, chunks.sum())
    )
    came = np.maximum.accumulate(came + np.repeat(index * 1e6, chunks)) - np.repeat(index * 1e6, chunks)
    thought = tokens * 3 // 4
    question = _texts("q", index)
    words = pa.array(rng.integers(0, 10**9, count).astype(str))
    shared = {name: pa.repeat(value, count) for name, value in {**server, **at}.items()}
    columns: dict[str, Any] = {
        **shared,
        "index": index,
        "batch": batch if at["load"].startswith("batch") else pa.nulls(count),
        "question_id": question,
        "kind": pa.repeat("number", count),
        "domain": _texts("domain-", index % DOMAINS),
        "difficulty": _texts("level-", index % DIFFICULTIES),
        "seed": index.astype(np.int64),
        "forced_output_tokens": pa.nulls(count),
        "scheduled": sent,
        "sent": sent + rng.uniform(0, 0.001, count),
        "first_token": first,
        "first_visible_token": pa.array(first + took * 0.75, mask=~answered),
        "last_token": pa.array(last, mask=~ok),
        "closed": last,
        "chunk_times": _lists(chunks, came),
        "chunk_tokens": _lists(chunks, np.full(chunks.sum(), TOKENS_A_CHUNK, np.int32)),
        "prompt_tokens": rng.integers(40, 400, count),
        "output_tokens": tokens,
        "reasoning_tokens": thought,
        "answer_tokens": tokens - thought,
        "streamed_ids": tokens,
        "tokens_source": pa.repeat("usage", count),
        "reasoning_source": pa.repeat("token_ids", count),
        "finish_reason": pa.array(np.where(answered, "stop", "length")),
        "status": pa.array(np.where(ok, "ok", "timeout")),
        "http_status": pa.repeat(200, count),
        "error": pa.nulls(count),
        "reasoning_text": pa.compute.binary_join_element_wise(words, "because " * (TEXT // 8), " "),
        "answer_text": words,
    }
    requests = pa.table({name: pa.array(columns[name]).cast(REQUESTS.field(name).type) for name in REQUESTS.names})
    correct = answered & (rng.random(count) < 0.7)
    marks: dict[str, Any] = {
        **{name: shared[name] for name in (*SERVER_KEYS, "dataset", "load", "budget", "repeat")},
        "index": index,
        "question_id": question,
        "extracted": words,
        "correct": correct,
        "grader": pa.repeat("math-verify", count),
        "failure_mode": pa.array(
            np.where(ok, np.where(answered, "wrong", "truncated-thinking"), "failed"), mask=correct
        ),
    }
    columns = {name: pa.array(marks[name]).cast(GRADE_SCHEMA.field(name).type) for name in GRADE_SCHEMA.names}
    grades = pa.table(columns, schema=GRADE_SCHEMA)
    return requests, grades, samples(server, at, float(last.max()), rng)


def samples(server: dict[str, str], at: dict[str, Any], seconds: float, rng: np.random.Generator) -> pa.Table:
    """What the server's metrics showed while the point lasted."""
    time = np.arange(0, seconds, 1 / SAMPLE_HZ)
    kept = {name: pa.repeat(value, len(time)) for name, value in {**server, **at}.items()}
    grown = np.linspace(0, 1e6, len(time))
    measured: dict[str, Any] = {
        "in_window": pa.repeat(True, len(time)),
        "time": time,
        "kv_cache_usage": rng.random(len(time)),
    }
    measured |= dict.fromkeys(("prefix_queries", "prefix_hits", "prompt_tokens", "generated_tokens"), grown)
    measured |= {"running": rng.integers(0, 64, len(time)), "waiting": rng.integers(0, 64, len(time))}
    measured |= {"preemptions": np.zeros(len(time)), "device_energy_j": grown, "device_memory_bytes": grown * 1e4}
    nothing = pa.nulls(len(time))
    columns = {name: pa.array({**kept, **measured}.get(name, nothing)) for name in SERVER.names}
    return pa.table({name: column.cast(SERVER.field(name).type) for name, column in columns.items()})


def write(folder: Path, engine: str, points: int, requests: int) -> pa.Table:
    """The files of a run of `points` points of `requests` requests each; returns their grades."""
    folder.mkdir(parents=True)
    names = {"experiment": "e", "engine": engine, "model": "m", "quantization": "bf16", "setup": "baseline"}
    parts = [point(names, at, requests, number + 10**6 * len(engine)) for number, at in enumerate(keys(points))]
    asked, grades, sampled = (pa.concat_tables(tables) for tables in zip(*parts, strict=True))
    for name, table in (("requests", asked), ("server", sampled)):
        pq.write_table(table, folder / f"{name}.parquet", compression="zstd")
    told = [{**at, "duration_s": 100.0, "validity": {"loop_lag_p99_s": 0.001}, "invalid": None} for at in keys(points)]
    record = {"points": told, "sessions": [{"kernels": {}}], "config": {"options": {}}, "model": {"path": "nowhere"}}
    (folder / "run.json").write_text(json.dumps(record))
    return grades


if __name__ == "__main__":
    where, amount, each = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    where.mkdir(parents=True)
    with pq.ParquetWriter(where / "grades.parquet", GRADE_SCHEMA) as writer:
        for run, made_by in (("mine", "sglang"), ("other", "vllm")):
            writer.write_table(write(where / run, made_by, amount, each))
