"""The metrics of points and conditions: unit and definition of every column, and which have an interval."""

from __future__ import annotations

from collections.abc import Sequence

from .validity import CLIENT_GATES

LATENCIES = {
    "ttft": ("s", "first token of any kind - arrival"),
    "ttfvt": ("s", "first visible (not thinking) token - arrival; of the requests that answered"),
    "tpot": ("s", "(last chunk - first token) / (output tokens - 1), a value a request"),
    "itl": ("s", "gap between chunks, weighted by the tokens of the later chunk, over all chunks"),
    "e2e_latency": ("s", "last chunk - arrival"),
}
TOKENS = {
    "prompt_tokens": ("tokens", "prompt tokens of a successful request"),
    "output_tokens": ("tokens", "output tokens (thinking and answer) of a successful request"),
    "reasoning_tokens": ("tokens", "thinking tokens of a successful request"),
    "answer_tokens": ("tokens", "visible tokens of a successful request"),
}
FAILURE_MODES = ["wrong", "no-answer", "truncated-thinking", "truncated-answer", "failed"]
LATENCY_SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
TOKEN_SHARES = {"p50": 0.5, "p99": 0.99}
RATIOS = {
    "failed_rate": ("", "requests that failed / asked"),
    "answered_rate": ("", "successful requests with a visible token / asked"),
    "truncated_rate": ("", "requests ended by the token budget / asked"),
    "accuracy": (
        "",
        "correct / asked; failed and unanswered ones are not correct; none unless every one is graded, and none where "
        "answers were made to have a length",
    ),
    "slo_attainment": ("", "requests within the experiment's SLO on TTFVT and TPOT / asked; failed ones are not"),
    "output_throughput": (
        "tokens/s",
        "output tokens of successful requests / (last end of any request - first arrival); sums over repeats",
    ),
    "straggler_time_fraction": (
        "",
        "share of a batch's time with fewer than half of its requests running; mean of batches",
    ),
}
GAUGES = {
    "kv_cache_usage": ("", "share of the KV cache in use"),
    "running": ("requests", "requests in the running batch of the server"),
    "waiting": ("requests", "requests in the waiting queue of the server"),
}


def _spread(names: dict[str, tuple[str, str]], stats: Sequence[str]) -> dict[str, tuple[str, str]]:
    return {f"{name}_{stat}": (unit, f"{stat}: {text}") for name, (unit, text) in names.items() for stat in stats}


METRICS: dict[str, tuple[str, str]] = {
    "num_requests": ("requests", "requests of the point"),
    "completed": ("requests", "requests whose stream ended properly"),
    "failed": ("requests", "num_requests - completed"),
    "num_questions": ("questions", "different questions asked: the clusters of the intervals"),
    "repeats": ("", "points pooled"),
    **RATIOS,
    **_spread(LATENCIES, ["mean", *LATENCY_SHARES]),
    **_spread(TOKENS, ["mean", *TOKEN_SHARES]),
    **{f"failure_mode_{miss.replace('-', '_')}": ("", f"requests missed as {miss} / asked") for miss in FAILURE_MODES},
    **_spread(GAUGES, ["mean", "max"]),
    "kv_cache_usage_p5": ("", "5 % quantile over time of the KV cache's use"),
    "kv_cache_usage_p95": ("", "95 % quantile over time of the KV cache's use"),
    "kv_cache_usage_swing": ("", "kv_cache_usage_p95 - kv_cache_usage_p5"),
    "preemptions": ("requests", "increase of the server's counter of preempted requests"),
    "goodput": (
        "requests/s",
        "requests within the SLO / (last end of any - first arrival); sums over repeats",
    ),
    "energy": ("J", "increase of the devices' energy counters from the first sample to the last; sum over repeats"),
    **{name: ("", f"{gate.text}; the largest of the repeats") for name, gate in CLIENT_GATES.items()},
    "invalid": ("", "why the point is beyond a validity gate, in words; missing when it is not"),
    "duration": ("s", "wall time of the point as its run recorded it; sum over repeats"),
}
WITH_INTERVAL = [
    *RATIOS,
    *_spread(LATENCIES, ["mean", *LATENCY_SHARES]),
    *_spread(TOKENS, ["mean", *TOKEN_SHARES]),
]
WITH_INTERVAL += [f"{name}_mean" for name in GAUGES]
