"""A made-up study with the shape of a real one: a long-tailed RLLM beside a plain LLM, four sets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from rllm_serving.analysis.request_metrics import with_text_hash

PAIRS = {"micro": {"llm": "micro_llm", "rllm": "micro_rllm"}}
# set: difficulty, domain, median output tokens of LLM and RLLM, accuracy of LLM and RLLM
SETS = {
    "arith-easy": ("easy", "arithmetic", 14, 30, 0.85, 0.97),
    "arith-medium": ("medium", "arithmetic", 22, 80, 0.4, 0.9),
    "arith-hard": ("hard", "arithmetic", 28, 170, 0.1, 0.7),
    "facts-mcq": ("easy", "geography", 6, 18, 0.95, 0.94),
}
BUDGETS = [32, 64, 128, 256, 512]
KEYS = {"quantization": "bf16", "setup": "baseline"}


def _point(rng: np.random.Generator, keys: dict[str, Any], slow: float, fail: float) -> tuple[list, list, list, float]:
    difficulty, domain, llm_tokens, rllm_tokens, llm_right, rllm_right = SETS[keys["dataset"]]
    thinks = keys["model"].endswith("_rllm")
    size, budget, questions = keys["load_level"], keys["budget"], keys.pop("questions")
    requests, grades, samples, clock = [], [], [], 0.0
    # What is said depends on the question and the seed, not on the server.
    said = np.random.default_rng([ord(c) for c in keys["model"] + keys["dataset"]] + [keys["repeat"]])
    tails = said.lognormal(0, 0.75 if thinks else 0.25, questions)
    for start in range(0, questions, size):
        index = np.arange(start, min(start + size, questions))
        tail = tails[index]
        wanted = np.maximum(2, (rllm_tokens if thinks else llm_tokens) * tail).astype(int)
        output = np.minimum(wanted, budget)
        step = slow * 0.004 * (1 + 0.03 * len(index)) * rng.uniform(0.9, 1.1, len(index))
        sent = clock + np.sort(rng.uniform(0, 0.01, len(index)))
        first = sent + slow * (0.02 + 0.002 * len(index)) * rng.uniform(0.8, 1.4, len(index))
        finished = first + step * (output - 1)
        for i, k in enumerate(index):
            failed = rng.random() < fail
            cut = wanted[i] > budget
            thought = int(wanted[i] * 0.85) if thinks else 0
            visible = first[i] + step[i] * thought if output[i] > thought else None
            chunks = np.arange(1, output[i], 2)
            right = not failed and visible is not None and rng.random() < (rllm_right if thinks else llm_right)
            miss = "truncated-thinking" if cut and visible is None else "truncated-answer" if cut else "wrong"
            requests.append(
                keys
                | {
                    "index": k,
                    "batch": start // size,
                    "question_id": f"{keys['dataset']}-{k}",
                    "kind": "number",
                }
                | {
                    "domain": domain,
                    "difficulty": difficulty,
                    "seed": k,
                    "forced_output_tokens": None,
                    "status": "http" if failed else "ok",
                }
                | {"scheduled": None, "sent": sent[i], "first_token": None if failed else first[i]}
                | {
                    "first_visible_token": None if failed else visible,
                    "last_token": None if failed else finished[i],
                    "closed": finished[i],
                }
                | {"chunk_times": [] if failed else [first[i], *(first[i] + step[i] * (chunks + 0.5))]}
                | {"chunk_tokens": [] if failed else [1, *np.minimum(2, output[i] - chunks)]}
                | {"prompt_tokens": 40, "output_tokens": None if failed else output[i]}
                | {"reasoning_tokens": None if failed else min(thought, output[i])}
                | {"answer_tokens": None if failed else max(0, output[i] - thought)}
                | {"finish_reason": None if failed else "length" if cut else "stop"}
                | {"reasoning_text": f"thought {k}" if thinks else "", "answer_text": f"answer {k}"}
            )
            grades.append(
                {name: keys[name] for name in ("dataset", "load", "budget", "repeat")}
                | {"index": k, "question_id": f"{keys['dataset']}-{k}", "correct": bool(right), "extracted": "1"}
                | {"failure_mode": None if right else "failed" if failed else miss}
            )
        end = finished.max()
        for t in np.arange(clock, end, max(0.02, (end - clock) / 60)):
            alive = (sent <= t) & (t < finished)
            held = (alive * (40 + np.maximum(0, t - first) / step)).sum() / 4000
            samples.append(
                {name: keys[name] for name in keys}
                | {
                    "time": t,
                    "kv_cache_usage": min(1, held),
                    "running": alive.sum(),
                    "waiting": 0,
                    "preemptions": 0,
                    "in_window": True,
                    "device_memory_bytes": np.nan,
                    "host_rss_bytes": 2e9 * slow,
                    "host_energy_j": 80 * t,
                }
            )
        clock = end + 0.01
    return requests, grades, samples, clock


def run(
    experiment: str = "pilot-budget",
    engine: str = "vllm",
    model: str = "micro_rllm",
    loads: tuple[int, ...] = (16,),
    budgets: tuple[int, ...] = tuple(BUDGETS),
    starts: int = 2,
    repeats: int = 1,
    questions: int = 32,
    fail: float = 0.0,
) -> tuple[pa.Table, pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """requests, grades, server and run.json of one server."""
    rng = np.random.default_rng([ord(c) for c in experiment + engine + model])
    server = {"experiment": experiment, "engine": engine, "model": model} | KEYS
    requests, grades, samples, done = [], [], [], []
    for dataset in SETS:
        for size in loads:
            for budget in budgets:
                for repeat in range(starts * repeats):
                    keys = server | {"dataset": dataset, "load": f"batch-{size}", "load_level": size}
                    keys |= {"budget": budget, "repeat": repeat, "questions": questions}
                    keys |= {"start": 1 + repeat // repeats, "restart": 0}
                    mood = 1 + 0.05 * (-1) ** (repeat // repeats)
                    a, b, c, seconds = _point(rng, keys, mood * (1.0 if engine == "vllm" else 1.3), fail)
                    requests += a
                    grades += b
                    samples += c
                    point = {"dataset": dataset, "load": f"batch-{size}", "budget": budget, "repeat": repeat}
                    done.append(point | {"duration_s": seconds})
    table = with_text_hash(pa.Table.from_pylist(requests))
    record = {"server": server, "points": done, "config": {"options": {"kv_cache_tokens": 4000}}}
    record |= {"device": "cpu", "sessions": [{"hardware": {"cores": 4}}]}
    return table, pd.DataFrame(grades), pd.DataFrame(samples), record


def study(engines: tuple[str, ...], pairs: dict[str, dict[str, str]], **options: Any) -> list[tuple]:
    """Runs of every engine and model, options as for `run`."""
    models = [model for pair in pairs.values() for model in pair.values()]
    return [run(engine=engine, model=model, **options) for engine in engines for model in models]
