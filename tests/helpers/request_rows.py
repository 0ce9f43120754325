"""Rows of requests.parquet whose metrics are worked out by hand."""

from __future__ import annotations

from typing import Any

KEYS = {"experiment": "e", "engine": "vllm", "model": "m", "quantization": "bf16", "setup": "baseline"}
POINT = {"dataset": "d", "load": "batch-3", "load_level": 3, "budget": 8, "repeat": 0}
START = {"start": 1, "restart": 0}


def request(index: int, **changes: Any) -> dict[str, Any]:
    row = KEYS | START | POINT | {"index": index, "batch": 0, "question_id": f"q{index}", "status": "ok"}
    row |= {"domain": "algebra", "difficulty": "easy", "finish_reason": "stop", "scheduled": None}
    row |= {"prompt_tokens": 5, "reasoning_tokens": 1, "answer_tokens": 2, "forced_output_tokens": None}
    return row | changes


def three() -> list[dict[str, Any]]:
    """Two that answer and one whose thinking the budget cut."""
    return [
        request(0, sent=0.0, first_token=1.0, first_visible_token=1.0, last_token=3.0, output_tokens=3)
        | {"chunk_times": [1.0, 2.0, 3.0], "chunk_tokens": [1, 1, 1]},
        request(1, sent=0.5, first_token=1.0, first_visible_token=4.0, last_token=5.0, output_tokens=6)
        | {"chunk_times": [1.0, 4.0, 5.0], "chunk_tokens": [1, 4, 1]},
        request(2, sent=1.0, first_token=2.0, first_visible_token=None, last_token=10.0, output_tokens=1)
        | {"chunk_times": [2.0], "chunk_tokens": [1], "finish_reason": "length"},
    ]


def dead(index: int, **changes: Any) -> dict[str, Any]:
    row = request(index, sent=0.0, first_token=0.5, first_visible_token=None, last_token=100.0, output_tokens=50)
    row |= {"status": "truncated", "chunk_times": [0.5, 100.0], "chunk_tokens": [1, 49]}
    return row | changes
