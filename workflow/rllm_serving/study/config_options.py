"""Sections of the config about the whole study: sampling, serving, measurement, grading."""

from __future__ import annotations

from typing import Literal

from .config_base import MOST, Count, Name, Section, key


class Environments(Section):
    """How environments are built."""

    torch_cpu_wheels: str | None = key(None, allowed="null, a folder or the address of a package index")
    """where PyTorch's CPU build comes from, which is not on PyPI; null: as the main README says"""


class Sampling(Section):
    """How tokens are drawn."""

    temperature: float = key(0.6, ge=0, le=2)
    """0 is greedy: repeats then differ by the engine's own noise alone"""
    top_p: float = key(0.95, gt=0, le=1)
    """share of probability that tokens are drawn from"""


class ExperimentSampling(Section):
    """How tokens are drawn in one experiment."""

    temperature: float = key(ge=0, le=2)
    """in place of the study's"""
    top_p: float = key(gt=0, le=1)
    """in place of the study's"""


class Serving(Section):
    """Serving options, under one name each for all engines."""

    context_length: int = key(ge=16, le=MOST)
    """tokens of prompt and output together; every budget must be smaller"""
    tensor_parallel: Count = key(allowed="divides the attention heads")
    """GPUs of a server; which they are: [docs/gpu.md](../docs/gpu.md)"""
    gpu_memory_fraction: float = key(gt=0, le=1)
    """part of a GPU's memory that a server may fill: weights, KV pool and, on vLLM, what it works with (SGLang has that
    beside them). [docs/gpu.md](../docs/gpu.md#memory) says what is left for the pool"""
    kv_cache_tokens: int | None = key(ge=128, le=1_000_000_000)
    """size of the KV pool; null: on GPUs what every engine has room for, so that it is the same on all; on a CPU what
    the engine takes"""
    kv_cache_dtype: Literal["auto", "fp8-e4m3", "fp8-e5m2"] = key()
    """number format of the KV pool; `auto`: the model's. On a CPU without AVX-512 vLLM has no FP8"""
    max_running_requests: Count = key()
    """requests that a server works on at once; the others wait"""
    prefill_chunk_tokens: int = key(ge=128, le=MOST)
    """tokens of prompts that one step computes, at most, on GPUs; by themselves the engines take 2,048 to 16,384, by
    the GPU's memory. On a CPU vLLM computes every prompt in one step"""
    prefix_cache: bool = key()
    """whether prompts that begin alike share their KV entries"""
    scheduling: Literal["fcfs", "shortest-prompt", "longest-prefix", "longest-output", "random"] = key()
    """which waiting request is next: the first; the one with fewest characters; the one with most of its prompt in the
    prefix cache; the one with the largest budget; any. vLLM has the first two"""
    speculative: Literal["none", "ngram", "draft", "eagle3"] = key()
    """what proposes tokens for the model to check: nothing, the text so far, a small model, a head trained for the
    model. SGLang's need a GPU"""
    speculative_tokens: Count = key()
    """tokens proposed at a time"""
    draft_model: Name = key(allowed="a model of role `draft`", shown="required for `draft` and `eagle3`")
    """the model that proposes; as a rule in `models.NAME.serving`"""


class Gates(Section):
    """Limits beyond which a point is invalid."""

    loop_lag_p99_s: float = key(0.02, ge=0)
    """s, 99 % quantile of how late the client's event loop was: as late may a time stamp be"""
    client_cpu_utilization: float = key(0.8, ge=0)
    """CPU time of the client / wall time; at 1 it has a core for itself and no reserve"""
    schedule_lag_p99_s: float = key(0.02, ge=0)
    """s, 99 % quantile of sent - scheduled"""
    missing_samples_rate: float = key(0.2, ge=0)
    """share of the point's time that no sample of the server tells of: none came for two periods of `sample_hz`"""
    usage_mismatch_rate: float = key(0.005, ge=0)
    """relative difference of the token ids that came in streams from the tokens that the usage reports"""
    reasoning_mismatch_rate: float = key(0.01, ge=0)
    """relative difference of the thinking tokens by the chunks of the streams from those that are counted"""
    counter_mismatch_rate: float = key(0.005, ge=0)
    """relative difference of the growth of the server's own token counter from the sum of the usage"""
    undecoded_rate: float = key(0.0, ge=0, le=1)
    """share of the answers with a character that stands for a space or a line end in a vocabulary (Ġ, Ċ, ▁): the
    engine's tokenizer did not decode them"""
    others_cpu_utilization: float = key(0.1, ge=0)
    """CPU time of others than server and client on the cores that these may use / time of those cores"""
    steal_rate: float = key(0.02, ge=0)
    """CPU time that a hypervisor took from those cores / their time"""
    throttled_rate: float = key(0.05, ge=0, le=1)
    """share of the samples at which a GPU was slowed down for heat or for lack of power"""
    foreign_processes: int = key(0, ge=0)
    """processes on the server's GPUs that are not the server's"""


class Measurement(Section):
    """How a run goes."""

    request_timeout_s: float = key(600.0, gt=0, le=10_000_000)
    """seconds after which a request has failed"""
    startup_timeout_s: float = key(1800.0, gt=0, le=10_000_000)
    """seconds that a server may take until its first answer"""
    restart_cold: bool = True
    """whether a server on GPUs that compiled kernels while it started is started once more, so that all measured starts
    are of one kind; if not, `startup_seconds` of that start is empty in `run.json`"""
    sample_hz: float = key(5.0, ge=1, le=50)
    """samples a second of the server's and the device's metrics; in a point's first seconds they are more, up to 50, so
    that short points have enough"""
    warm_up_rounds: Count = 8
    """rounds of the largest load that a server is warmed up with at most, unrecorded"""
    warm_up_agreement: float = key(0.05, gt=0, lt=1)
    """relative difference of the rates (tokens/s) of two rounds in a row at which it has warmed up"""
    max_failed_rate: float = key(0.0, ge=0, le=1)
    """share of a point's requests that may fail before it is invalid"""
    on_invalid: Literal["fail", "mark"] = "fail"
    """what becomes of a point beyond a gate: the run fails, keeping its other points; or it is kept and marked, hollow
    in figures, with a dagger in tables, with its reason in `invalid`. A point whose requests all failed always fails
    the run. A server that runs with other options than asked makes all its points invalid, and under `fail` is not
    measured"""
    gates: Gates = key(Gates())
    """limits beyond which a point is invalid:"""


class Grading(Section):
    """How answers are graded."""

    timeout_s: float = key(10.0, gt=0, le=10_000_000)
    """s of CPU time for comparing one answer with its gold answer, or for running its tests"""
    execute_code: bool = False
    """whether answers that are code (`humaneval`) are run against their tests, in a sandbox that needs
    [bubblewrap](../docs/grading.md#code); if not, they are asked, served and timed, but not graded: their accuracy is
    empty, never 0"""


class Margins(Section):
    """Largest changes that do not matter."""

    accuracy: float = key(0.05, gt=0, lt=1)
    """difference of the accuracy; also of the share of requests with an answer"""
    output_throughput: float = key(0.1, gt=0)
    """relative change: up to 1.1 times as much and as little as 1 / 1.1; likewise the others"""
    latency: float = key(0.1, gt=0)
    """of TTFT, TTFVT, TPOT and E2E latency"""
    tokens: float = key(0.1, gt=0)
    """of output and thinking tokens"""
    kv_cache_usage: float = key(0.1, gt=0)
    """of the KV cache's use; also of the running requests"""


class Analysis(Section):
    """How comparisons are judged, and what devices cost."""

    price_per_hour: float = key(gt=0, shown="none: no correct answers a dollar")
    """dollars an hour of one GPU; on CPU of the machine"""
    margins: Margins = key(Margins())
    """largest changes that do not matter, fixed before measuring: a change that is surely smaller is *equivalent*:"""
