"""Made-up results of whole studies, as two of them are compared: their truth is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from rllm_serving.analysis.results_folder import QUESTIONS, StudyResults
from rllm_serving.analysis.studies import FROM_STARTS

CONFIG: dict[str, Any] = {
    "method": "bf16",
    "options": {"context_length": 512, "prefix_cache": True},
    "sampling": {"temperature": 0.6, "top_p": 0.95},
    "seed": 1,
    "thinking": None,
    "reasoning_parser": "qwen3",
    "measurement": {"sample_hz": 5.0},
    "version": 7,
}
QUESTIONS_ASKED = 40
MODELS = ("m_llm", "m_rllm")


def keys(model: str, dataset: str, setup: str = "baseline", load: str = "batch-4") -> dict[str, Any]:
    server = {"experiment": "e", "engine": "vllm", "model": model, "quantization": "bf16", "setup": setup}
    return server | {"dataset": dataset, "load": load, "load_level": 4.0, "budget": 64}


def record(name: str = "m_llm", setup: str = "baseline", **changed: Any) -> dict[str, Any]:
    """run.json; changed: keys of it, those of `config` and `hardware` among them."""
    hardware = {"cpu": "A", "cores": 2, "memory_bytes": 2**33, "gpus": [], "driver": None, "system": "Linux-6.1"}
    session = {"git_commit": "abc", "hardware": hardware | changed.pop("hardware", {}), "kernels": {"linear": ["Fast"]}}
    server = {key: keys(name, "", setup)[key] for key in ("experiment", "engine", "model", "quantization", "setup")}
    environment = {"engine_version": "0.1", "python": "3.11.7", "packages": {"torch": "2.1", "numpy": "2.0"}}
    made: dict[str, Any] = {
        "server": server,
        "config": CONFIG | changed.pop("config", {}),
        "sessions": [session],
        "device": "cpu",
        "environment": environment,
        "model": {"source": "hub", "id": "a/b", "commit": "c" * 40},
        "points": [],
    }
    return made | changed


def study(
    times: dict[str, float],
    datasets: Sequence[str] = ("d",),
    right: float | None = 0.5,
    noise: float = 0.02,
    starts: int = 3,
    seed: int = 0,
    setups: Sequence[str] = ("baseline",),
) -> StudyResults:
    """A study of both MODELS.

    Args:
        times: metric -> its mean in a typical start, 1 by default.
        datasets: what is asked.
        right: share of the questions that are answered well, the first so many; None: not known by question.
        noise: standard deviation of the logs of starts.
        starts: of each server.
        seed: of the noise.
        setups: servers of each model.
    """
    rng = np.random.default_rng(seed)
    of_starts, summary, said = [], [], []
    for dataset in datasets:
        for model in MODELS:
            for setup in setups:
                key = keys(model, dataset, setup)
                for start in range(1, starts + 1):
                    values = {
                        column: times.get(metric, 1.0) * np.exp(rng.normal(0, noise))
                        for metric, column in FROM_STARTS.items()
                    }
                    of_starts.append(key | {"start": start, "restart": 0} | values)
                hits = np.arange(QUESTIONS_ASKED) < (right or 0.5) * QUESTIONS_ASKED
                shares = {"accuracy": hits.mean(), "answered_rate": 1.0}
                lengths = {"output_tokens_mean": 20.0, "reasoning_tokens_mean": 10.0}
                row = key | {"num_questions": QUESTIONS_ASKED, "num_requests": 3 * QUESTIONS_ASKED, "points": 3}
                row |= {"starts": starts, "invalid": None, "ttfvt_horizon": 2.0}
                for name, value in shares.items():
                    row |= {name: value, f"{name}_low": value - 0.1, f"{name}_high": value + 0.1}
                for name, value in lengths.items():
                    row |= {name: value, f"{name}_low": value / 1.2, f"{name}_high": value * 1.2}
                summary.append(row)
                for number, hit in enumerate(hits):
                    tokens = {"output_tokens": 10.0 + number, "reasoning_tokens": 5.0 + number}
                    said.append(
                        key
                        | {"question_id": str(number), "accuracy": float(hit), "answered_rate": 1.0, "requests": 3}
                        | tokens
                    )
    return StudyResults(
        starts=pd.DataFrame(of_starts),
        summary=pd.DataFrame(summary),
        records=[record(model, setup) for model in MODELS for setup in setups],
        questions=pd.DataFrame([] if right is None else said, columns=QUESTIONS),
        comparisons=pd.DataFrame(),
    )
