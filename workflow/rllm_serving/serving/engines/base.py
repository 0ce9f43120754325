"""What the workflow knows about an engine: how to start it, when it is ready, what its metrics are called."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

SAMPLED_SPECULATION = "speculative at temperature > 0"
"""The option under which an engine refuses a kind of speculation only where tokens are sampled."""

COMMON_ADVICE = {
    "out of memory": "Lower serving.gpu_memory_fraction, or raise serving.tensor_parallel.",
    "trust_remote_code": "The model brings code of its own: set trust_remote_code: true for it if you trust it.",
    "unrecognized arguments": "A flag is unknown to the installed engine: rebuild the environment from its lock.",
}


@dataclass(frozen=True)
class Options:
    """Serving options under one name each; every engine translates them into flags of its own.

    Attributes:
        context_length: tokens of prompt and output together.
        tensor_parallel: number of devices that the model is split over.
        gpu_memory_fraction: share of a GPU's memory that a server may fill; see `Engine.weights_and_pool`.
        kv_cache_tokens: size of the KV pool; None: what every engine has room for (`serving.memory`), and on the CPU
            what the engine itself takes.
        kv_cache_dtype: "auto" (the model's), "fp8-e4m3" or "fp8-e5m2".
        max_running_requests: requests that are decoded at the same time, at most.
        prefill_chunk_tokens: tokens of prompts that one step computes, at most (on GPUs).
        prefix_cache: whether requests with a common prefix share its KV cache.
        scheduling: which waiting request runs next: "fcfs" (the first), "shortest-prompt", "longest-prefix" (most of
            it in the prefix cache), "longest-output" or "random".
        speculative: what proposes tokens: "none", "ngram" (the text so far), "draft" (a small model) or "eagle3" (a
            head trained for the model).
        speculative_tokens: tokens proposed at a time.
        draft_model: name of the proposing model.
    """

    context_length: int = 32768
    tensor_parallel: int = 1
    gpu_memory_fraction: float = 0.9
    kv_cache_tokens: int | None = None
    kv_cache_dtype: str = "auto"
    max_running_requests: int = 64
    prefill_chunk_tokens: int = 8192
    prefix_cache: bool = True
    scheduling: str = "fcfs"
    speculative: str = "none"
    speculative_tokens: int = 3
    draft_model: str | None = None


@dataclass(frozen=True)
class ServerConfig:
    """Everything that one server start needs besides the engine.

    Attributes:
        python: interpreter of the engine's environment.
        model: folder of the model.
        draft: folder of the model that proposes tokens.
        served_name: name of the model in requests.
        device: "cpu" or "cuda".
        options: serving options.
        reasoning_parser: its common name; None: the engine does not separate reasoning from answer.
        trust_remote_code: whether code of the model's folder may run.
        seed: of the engine's own random numbers.
        quantization: method that weights are quantized with while they load; checkpoints that were quantized before
            say so themselves.
    """

    python: Path
    model: Path
    draft: Path | None
    served_name: str
    device: str
    options: Options
    reasoning_parser: str | None
    trust_remote_code: bool
    seed: int
    quantization: str = "bf16"


@dataclass(frozen=True)
class MetricSource:
    """Where a column of server.parquet comes from: a metric of the engine's /metrics page.

    Attributes:
        metric: the metric's name.
        combine: how samples of several label sets are combined: "sum" (over engine ranks) or "max" (of a share).
        absent: value where the page lacks the metric: None, or 0 for a counter that appears only once it has moved.
    """

    metric: str
    combine: str = "sum"
    absent: float | None = None


@dataclass(frozen=True)
class Told:
    """What a server that is ready has told of itself.

    Attributes:
        info: what `Engine.info_path` answered; empty where there is none.
        metrics: its /metrics page.
        log: its log.
    """

    info: Mapping[str, Any]
    metrics: str
    log: str


class Engine(ABC):
    """One serving engine. Subclasses hold facts, not logic: flags, environment, paths, metric and field names."""

    name: ClassVar[str]
    title: ClassVar[str]
    """The name as its makers write it."""
    module: ClassVar[str]
    """The Python module that proves the environment works."""
    version: ClassVar[str]
    """The version in the locks: what is said here of flags, names and refusals was read or tried in it."""
    compiles: ClassVar[Mapping[str, str]] = {}
    """Device -> a program that compiles one kernel as the engine does while it runs, but without a GPU."""
    caches: ClassVar[Mapping[str, str]] = {}
    """Variable -> subfolder of what the engine itself compiles, beside `toolkit.CACHES`."""
    health_path: ClassVar[str] = "/health"
    flush_path: ClassVar[str]
    """POST here empties the prefix cache, so that no point profits from the one before it."""
    info_path: ClassVar[str | None] = None
    """GET here tells the arguments as the engine resolved them, as JSON; None: log and metrics must do."""
    stop_grace_s: ClassVar[float] = 15.0
    """Seconds between asking a server to stop and killing it."""
    metrics: ClassVar[Mapping[str, MetricSource]]
    kernels: ClassVar[Mapping[str, str]]
    """Name -> regular expression, one group, for a line of the log that says which kernel or backend was chosen."""
    pool_tokens: ClassVar[str]
    """Regular expression, one group, for what the log says of the KV pool's size (tokens)."""
    counts_think_close: ClassVar[bool]
    """Whether the engine's own reasoning token count includes the closing `</think>`."""
    budget_ends_first: ClassVar[bool]
    """Whether an output whose last token would have ended it counts as cut off where its budget ends there, too."""
    heeds_request_seeds: ClassVar[bool]
    """Whether a request's seed decides its draws."""
    values: ClassVar[Mapping[str, Mapping[str, str]]]
    """Option -> our value -> the engine's. A value that is missing here is one that the engine does not have."""
    refused: ClassVar[Mapping[tuple[str, str, str], str]]
    """(platform tag, option, our value) -> why the engine can't do it there, and whether that was tried or read.

    For the tags see `hardware.platform_tags`.
    """
    advice: ClassVar[Mapping[str, str]]
    """Text found in the log of a server that died -> what the user can do; extends COMMON_ADVICE."""

    @abstractmethod
    def command(self, config: ServerConfig, port: int) -> list[str]:
        """Command line of a server on the loopback interface at `port`."""

    @abstractmethod
    def environment(self, config: ServerConfig) -> dict[str, str]:
        """Environment variables to set on top of the workflow's own."""

    @abstractmethod
    def weights_and_pool(self, gpu_bytes: int, options: Options) -> float:
        """Bytes of a GPU that weights and KV pool may take together, so that the engine has room to work in.

        Estimated from what the engine's sources reserve; the engine itself measures it when it starts.

        Args:
            gpu_bytes: the GPU's memory.
            options: `gpu_memory_fraction`, `prefill_chunk_tokens` and `tensor_parallel` count.
        """

    def translate(self, option: str, value: str) -> str:
        """The engine's word for a value of ours."""
        return self.values[option][value]

    def refusals(self, options: Mapping[str, object], tags: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Yield (option, reason) for each option of a run that the engine can't serve.

        Args:
            options: options by name, as `Run.served` has them.
            tags: the machine's `hardware.platform_tags`.
        """
        for option, supported in self.values.items():
            value = options.get(option)
            if value is not None and value not in supported:
                yield option, f"{self.title} {self.version} has no '{value}' here; it has {', '.join(supported)}"
        for (tag, option, value), reason in self.refused.items():
            if tag in tags and options.get(option) == value:
                yield option, f"{self.title} {self.version} on {tag}: {reason}"

    @abstractmethod
    def has_flushed(self, answer: bytes) -> bool:
        """Whether what `flush_path` answered says that the prefix cache is empty: status 200 alone does not."""

    def resolved(self, config: ServerConfig, told: Told) -> dict[str, Any]:
        """The options that a server runs with as it tells itself, by our names; None, or absent, where it does not."""
        return {}

    def advise(self, log: Sequence[str]) -> str:
        """What to do about a dead server, from the last lines of its log; empty when nothing is known."""
        text = "\n".join(log)
        return " ".join(advice for needle, advice in {**self.advice, **COMMON_ADVICE}.items() if needle in text)

    def reported_pool(self, log: Path) -> int | None:
        """Tokens of the KV pool that the last server of a log has made; None where the log does not say."""
        found = re.findall(self.pool_tokens, log.read_text(encoding="utf-8", errors="replace"))
        return int(found[-1].replace(",", "")) if found else None

    def selected_backends(self, log: Path) -> dict[str, list[str]]:
        """Kernels and backends that the log reports, {name: distinct values in order}; names not found are omitted."""
        return self.backends_in(log.read_text(encoding="utf-8", errors="replace"))

    def backends_in(self, text: str) -> dict[str, list[str]]:
        """The same of the text of a log."""
        matches = {name: re.findall(pattern, text, re.MULTILINE) for name, pattern in self.kernels.items()}
        return {name: list(dict.fromkeys(values)) for name, values in matches.items() if values}


def describe_backends(record: Mapping[str, Any]) -> str:
    """The kernels and backends of the last server of a run (run.json) in words; empty where its log had none."""
    kernels: Mapping[str, list[str]] = record["sessions"][-1].get("kernels", {})
    return "; ".join(f"{name} {'/'.join(values)}" for name, values in kernels.items())
