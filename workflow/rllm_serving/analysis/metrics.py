"""The registry of metrics: name, unit, how people read it, definition, and what its interval comes from.

Analysis, tables and figures all take names, units and labels from here; docs/results.md explains the main ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from .gates import CLIENT_GATES
from .metric import Metric, Units


def _share(name: str, label: str, definition: str, units: Units = "") -> Metric:
    return Metric(name, label, "", definition, "%", 100.0, units)


def _seconds(name: str, label: str, definition: str, milli: bool = False, units: Units = "") -> Metric:
    unit, factor = ("ms", 1000.0) if milli else ("s", 1.0)
    return Metric(name, label, "s", definition, unit, factor, units)


def _by_name(metrics: Iterable[Metric]) -> dict[str, Metric]:
    return {metric.name: metric for metric in metrics}


def _statistics(metrics: dict[str, Metric], statistics: Iterable[str], units: Units) -> list[Metric]:
    return [metric.statistic(name, units) for metric in metrics.values() for name in statistics]


LATENCIES = _by_name(
    [
        _seconds("ttft", "TTFT", "first token of any kind - arrival"),
        _seconds(
            "ttfvt",
            "TTFVT",
            "first visible (not thinking) token - arrival; requests that ended without one are censored then "
            "(Kaplan-Meier), and the mean is restricted to `ttfvt_horizon`",
        ),
        _seconds("tpot", "TPOT", "(last chunk - first token) / (output tokens - 1), a value a request", milli=True),
        _seconds(
            "itl", "ITL", "gap between chunks / tokens of the later chunk, a value a token of all requests", milli=True
        ),
        _seconds("icl", "ICL", "gap between chunks, a value a chunk of all requests", milli=True),
        _seconds("e2e_latency", "E2E latency", "last chunk - arrival"),
    ]
)
TOKENS = _by_name(
    [
        Metric("prompt_tokens", "Prompt tokens", "tokens", "prompt tokens of a completed request"),
        Metric(
            "output_tokens", "Output tokens", "tokens", "output tokens (thinking and answer) of a completed request"
        ),
        Metric("reasoning_tokens", "Thinking tokens", "tokens", "thinking tokens of a completed request"),
        Metric("answer_tokens", "Answer tokens", "tokens", "visible tokens of a completed request"),
    ]
)
GAUGES = _by_name(
    [
        _share("kv_cache_usage", "KV cache", "share of the KV cache in use"),
        Metric("running", "Running requests", "requests", "requests in the running batch of the server"),
        Metric("waiting", "Waiting requests", "requests", "requests in the waiting queue of the server"),
    ]
)
HELD = _by_name(
    [
        Metric("kv_held_tokens", "KV tokens", "tokens", "tokens so far of the running requests", "tokens"),
        _share("kv_held_share", "KV held", "kv_held_tokens / size of the KV pool, where the config has it"),
    ]
)
RATES = _by_name(
    [
        _share("failed_rate", "Failed", "requests that failed / requests", "questions"),
        _share("answered_rate", "Answered", "completed requests with a visible token / requests", "questions"),
        _share("truncated_rate", "Cut off", "requests ended by the token budget / requests", "questions"),
        _share(
            "accuracy",
            "Accuracy",
            "correct / requests; failed and unanswered ones are not correct; none unless every one is graded, and none "
            "where answers were made to have a length",
            "questions",
        ),
        replace(
            _share(
                "slo_attainment",
                "Within SLO",
                "requests within the experiment's SLO / requests; failed ones are not",
                "starts",
            ),
            linear=True,
        ),
        Metric(
            "output_throughput",
            "Throughput",
            "tokens/s",
            "output tokens of completed requests / (last end of any request - first arrival); sums over repeats",
            "tokens/s",
            units="starts",
        ),
        *(
            replace(
                _share(
                    name,
                    f"Batch time below {part} running",
                    f"share of a batch's time with fewer than {part} of its requests running; mean of batches",
                    "starts",
                ),
                linear=True,
            )
            for name, part in (("straggler_time_fraction", "half"), ("last_quarter_time_fraction", "a quarter"))
        ),
    ]
)
WORTH = _by_name(
    [
        Metric(
            "request_throughput",
            "Answers a second",
            "requests/s",
            "completed requests / (last end of any request - first arrival); sums over repeats",
            "requests/s",
            units="starts",
        ),
        Metric(
            "request_throughput_per_device",
            "Answers a device-second",
            "requests/s",
            "request_throughput / the server's GPUs; on CPU / the cores of its machine",
            "requests/s",
            units="starts",
        ),
        Metric("energy_per_answer", "Energy an answer", "J", "energy / completed requests", "J", units="starts"),
        Metric(
            "correct_rate",
            "Correct a second",
            "1/s",
            "correct answers / (last end of any request - first arrival); sums over repeats",
            "1/s",
            units="both",
        ),
        Metric(
            "correct_per_device_second",
            "Correct a device-second",
            "1/s",
            "correct_rate / the server's GPUs; on CPU / the cores of its machine",
            "1/s",
            units="both",
        ),
        Metric("correct_per_joule", "Correct a joule", "1/J", "correct answers / energy", "1/J", units="both"),
        Metric(
            "correct_per_million_tokens",
            "Correct a million tokens",
            "",
            "correct answers / millions of output tokens (thinking and answer) of completed requests",
            units="questions",
        ),
        Metric(
            "correct_per_dollar",
            "Correct a dollar",
            "1/$",
            "correct answers / (time as in correct_rate x price of the devices), where the config has a price",
            "1/$",
            units="both",
        ),
    ]
)
"""What a server is worth: `worth` computes it."""
FAILURE_MODES = ["wrong", "not-comparable", "no-answer", "truncated-thinking", "truncated-answer", "failed"]
LATENCY_SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
TOKEN_SHARES = {"p50": 0.5, "p99": 0.99}

METRICS = _by_name(
    [
        Metric("num_requests", "Requests", "requests", "requests of the point"),
        Metric("completed", "Completed", "requests", "requests whose stream ended properly"),
        Metric("failed", "Failed requests", "requests", "num_requests - completed"),
        Metric(
            "num_questions", "Questions", "questions", "different questions asked: what intervals of answers rest on"
        ),
        Metric("starts", "Starts", "starts", "starts of the server pooled: what intervals of times rest on"),
        Metric("points", "Points", "", "points pooled"),
        Metric("invalid_points", "Invalid points", "", "points beyond a validity gate; they are left out"),
        *RATES.values(),
        *_statistics(LATENCIES, ["mean", *LATENCY_SHARES], "starts"),
        _seconds("ttfvt_horizon", "TTFVT horizon", "time up to which the mean TTFVT is taken"),
        *_statistics(TOKENS, ["mean", *TOKEN_SHARES], "questions"),
        *(
            _share(f"failure_mode_{mode.replace('-', '_')}", mode, f"requests that failed as {mode} / requests")
            for mode in FAILURE_MODES
        ),
        *_statistics({name: GAUGES[name] for name in ("kv_cache_usage", "running")}, ["mean"], "starts"),
        GAUGES["waiting"].statistic("mean", ""),
        *_statistics(GAUGES, ["max"], ""),
        _share("kv_cache_usage_p5", "KV cache p5", "5 % quantile over time of the KV cache's use"),
        _share("kv_cache_usage_p95", "KV cache p95", "95 % quantile over time of the KV cache's use"),
        _share("kv_cache_usage_swing", "KV cache swing", "kv_cache_usage_p95 - kv_cache_usage_p5", "starts"),
        *_statistics(HELD, ["mean", "swing"], "starts"),
        *_statistics(HELD, ["max", "p5", "p95"], ""),
        Metric("gauge_samples", "Samples", "", "samples under load of the point with the fewest; gauges need 20"),
        _share("kv_gauge_difference", "KV gauge off", "mean |kv_held_share - kv_cache_usage| at the server's samples"),
        Metric("preemptions", "Preemptions", "requests", "increase of the server's counter of preempted requests"),
        Metric(
            "goodput",
            "Goodput",
            "requests/s",
            "requests within the SLO / (last end of any - first arrival); sums over repeats",
            "requests/s",
            units="starts",
        ),
        Metric(
            "energy",
            "Energy",
            "J",
            "increase of the energy counters of the server's GPUs, on CPU of the machine's processors and memory, each "
            "read without a gap; sum over repeats",
            "J",
        ),
        *WORTH.values(),
        *(
            Metric(name, gate.label, "", f"{gate.text}; the largest of the repeats", gate.unit, gate.factor)
            for name, gate in CLIENT_GATES.items()
        ),
        Metric("invalid", "Invalid", "", "why the point is beyond a validity gate, in words; missing when it is not"),
        _seconds("duration", "Duration", "wall time of the point as its run recorded it; sum over repeats"),
    ]
)
"""Columns of points and conditions."""

COMPARED = _by_name(
    [
        RATES["accuracy"],
        RATES["output_throughput"],
        *(LATENCIES[name] for name in ("ttfvt", "tpot", "e2e_latency")),
        TOKENS["output_tokens"],
        GAUGES["kv_cache_usage"],
    ]
)
"""Metrics of `comparison.compare` whose ratios tables and figures show; of latencies, tokens and gauges the mean."""

COMPARISON_METRICS = _by_name(
    [
        *(metric.ratio() for metric in COMPARED.values()),
        Metric("accuracy_difference", "Accuracy difference", "", "candidate - baseline", "points", 100.0, "questions"),
        _share("same_answer", "Same answer", "completed on both sides with the same extracted answer", "questions"),
        _share("same_text", "Same text", "completed on both sides with the same text", "questions"),
        _share("same_length", "Same length", "completed on both sides with as many output tokens", "questions"),
        Metric("memory_max", "Memory max", "bytes", "the device's where there is one, else the host's", "GB", 1e-9),
        _seconds("delta_e2e_latency", "E2E change", "candidate - baseline", True, "questions"),
        _seconds("queue_and_prefill", "of queue and prefill", "part of delta_e2e_latency", True, "questions"),
        Metric("thinking_ratio", "Thinking tokens ratio", "", "candidate / baseline, paired", units="questions"),
        _seconds("thinking", "of thinking tokens", "part of delta_e2e_latency", True, "questions"),
        _seconds("answer", "of answer tokens", "part of delta_e2e_latency", True, "questions"),
        _seconds("speed", "of time per token", "part of delta_e2e_latency", True, "questions"),
        Metric("thinking_difference", "Thinking change", "tokens", "candidate - baseline", "tokens", 1.0, "questions"),
        _share("prefix_hit_rate", "Prefix hits", "prompt tokens found in the prefix cache / looked up"),
        _share("accepted_rate", "Drafts accepted", "accepted / drafted tokens"),
        _share("accepted_share", "Output drafted", "accepted drafts / output tokens"),
        Metric("accepted_per_step_thinking", "a step, thinking", "tokens", "tokens a chunk of thinking - 1", "tokens"),
        Metric("accepted_per_step_answer", "a step, answering", "tokens", "tokens a chunk of answers - 1", "tokens"),
        Metric("kv_bytes_per_token", "KV bytes a token", "bytes", "see `counters.kv_bytes_per_token`"),
    ]
)
"""Columns of comparisons and decompositions, as tables show them; `comparison` and `decomposition` define them."""

DERIVED_CHECK = _by_name(
    [
        Metric("identical_cells", "Identical cells", "cells", "conditions with the same text of every request"),
        Metric("cells", "Cells", "cells", "conditions that were both measured and derived"),
        _share("cut_in_chunk_rate", "Cut in a chunk", "cuts within a chunk of a stream, whose text is then left out"),
        _share("same_verdict", "Same verdict", "as right or wrong as measured", "questions"),
        _share("same_end", "Same end", "ended by itself or by the budget, as measured", "questions"),
        _share("accuracy_derived", "Accuracy, derived", "of answers that were cut from those under a larger budget"),
        _share("answered_rate_derived", "Answered, derived", "likewise"),
        Metric(
            "answered_rate_difference", "Answered difference", "", "derived - measured", "points", 100.0, "questions"
        ),
    ]
)
"""Columns that set derived budgets beside measured ones, as `derived_check` defines them."""

FROM_STARTS = {
    "output_throughput": "output_throughput",
    "kv_cache_usage": "kv_cache_usage_mean",
    **{name: f"{name}_mean" for name in ("ttfvt", "tpot", "e2e_latency")},
}
"""Metrics of COMPARED whose noise is that of the starts: name -> column of `points.Tables.starts`."""
INTERACTIONS = {name: metric.interaction() for name, metric in COMPARED.items()}
NOISE = _by_name(COMPARED[name].noise() for name in FROM_STARTS)

REGISTRY = METRICS | COMPARISON_METRICS | LATENCIES | TOKENS | GAUGES | NOISE | _by_name(INTERACTIONS.values())
REGISTRY |= DERIVED_CHECK
"""Every metric by name."""
