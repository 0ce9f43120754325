"""Sections of the config about the whole study: sampling, serving, measurement, grading."""

from __future__ import annotations

from typing import Literal

from .config_base import ABSENT, Count, Name, Section, key


class Environments(Section):
    """How environments are built."""

    torch_cpu_wheels: str | None = key(
        None,
        "where PyTorch's CPU build comes from, which is not on PyPI; null: as the main README says",
        allowed="null, a folder or the address of a package index",
    )


class Sampling(Section):
    """How tokens are drawn."""

    temperature: float = key(0.6, "0 is greedy: repeats then differ by the engine's own noise alone", ge=0, le=2)
    top_p: float = key(0.95, "share of probability that tokens are drawn from", gt=0, le=1)


class ExperimentSampling(Section):
    """How tokens are drawn in one experiment."""

    temperature: float = key(ABSENT, "in place of the study's", ge=0, le=2)
    top_p: float = key(ABSENT, "in place of the study's", gt=0, le=1)


class Serving(Section):
    """Serving options, under one name each for all engines."""

    context_length: int = key(ABSENT, "tokens of prompt and output together; every budget must be smaller", ge=16)
    tensor_parallel: Count = key(
        ABSENT,
        "GPUs of a server; which they are: [docs/gpu.md](../docs/gpu.md)",
        allowed="divides the attention heads",
    )
    gpu_memory_fraction: float = key(
        ABSENT,
        "part of a GPU's memory for weights and KV pool. vLLM takes its working memory and CUDA graphs "
        "out of it, SGLang has them beside it: the same fraction is a larger pool there, and leaves it less room",
        gt=0,
        le=1,
    )
    kv_cache_tokens: int | None = key(ABSENT, "size of the KV pool; null: what `gpu_memory_fraction` allows", ge=128)
    kv_cache_dtype: Literal["auto", "fp8-e4m3", "fp8-e5m2"] = key(
        ABSENT, "number format of the KV pool; `auto`: the model's. On a CPU without AVX-512 vLLM has no FP8"
    )
    max_running_requests: Count = key(ABSENT, "requests that a server works on at once; the others wait")
    prefix_cache: bool = key(ABSENT, "whether prompts that begin alike share their KV entries")
    scheduling: Literal["fcfs", "shortest-prompt", "longest-prefix", "longest-output", "random"] = key(
        ABSENT,
        "which waiting request is next: the first; the one with fewest characters; the one with most of its prompt in "
        "the prefix cache; the one with the largest budget; any. vLLM has the first two",
    )
    speculative: Literal["none", "ngram", "draft", "eagle3"] = key(
        ABSENT,
        "what proposes tokens for the model to check: nothing, the text so far, a small model, a head trained for the "
        "model. SGLang's need a GPU",
    )
    speculative_tokens: Count = key(ABSENT, "tokens proposed at a time")
    draft_model: Name = key(
        ABSENT,
        "the model that proposes; as a rule in `models.NAME.serving`",
        allowed="a model of role `draft`",
        shown="required for `draft` and `eagle3`",
    )


class Gates(Section):
    """Limits beyond which a point is invalid."""

    loop_lag_p99_s: float = key(
        0.02, "s, 99 % quantile of how late the client's event loop was: as late may a time stamp be", ge=0
    )
    client_cpu_utilization: float = key(
        0.8, "CPU time of the client / wall time; at 1 it has a core for itself and no reserve", ge=0
    )
    schedule_lag_p99_s: float = key(0.02, "s, 99 % quantile of sent - scheduled", ge=0)
    missing_samples_rate: float = key(0.2, "samples of the server that did not come / samples due", ge=0)
    usage_mismatch_rate: float = key(
        0.005, "relative difference of the tokens that came in chunks from those that the usage reports", ge=0
    )
    counter_mismatch_rate: float = key(
        0.005, "relative difference of the growth of the server's own token counter from the sum of the usage", ge=0
    )


class Measurement(Section):
    """How a run goes."""

    request_timeout_s: float = key(600.0, "seconds after which a request has failed", gt=0)
    startup_timeout_s: float = key(1800.0, "seconds that a server may take until its first answer", gt=0)
    sample_hz: float = key(5.0, "samples a second of the server's and the device's metrics", ge=1, le=50)
    max_failed_rate: float = key(0.0, "share of a point's requests that may fail before it is invalid", ge=0, le=1)
    on_invalid: Literal["fail", "mark"] = key(
        "fail",
        "what becomes of a point beyond a gate: the run fails, keeping its other points; or it is kept and marked, "
        "hollow in figures, with a dagger in tables, with its reason in `invalid`. A point whose requests all failed "
        "always fails the run",
    )
    gates: Gates = key(Gates(), "limits beyond which a point is invalid:")


class Grading(Section):
    """How answers are graded."""

    timeout_s: float = key(
        10.0, "s of CPU time for comparing one answer with its gold answer, or for running its tests", gt=0
    )
    execute_code: bool = key(
        False,
        "whether answers that are code (`humaneval`) are run against their tests, in a sandbox that needs "
        "[bubblewrap](../docs/grading.md#code); if not, they are asked, served and timed, but not graded: their "
        "accuracy is empty, never 0",
    )
