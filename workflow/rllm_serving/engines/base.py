"""What the pipeline knows about an engine: how to start it, when it is ready, what its numbers are called."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar


@dataclass(frozen=True)
class Options:
    """Serving options under one name each; every engine translates them into flags of its own.

    context_length: tokens of prompt and output together; kv_cache_tokens: size of the KV pool (None: what
    memory_share of the device allows); kv_cache_dtype: "auto" (the model's), "fp8-e4m3" or "fp8-e5m2".
    """

    context_length: int = 32768
    tensor_parallel: int = 1
    memory_share: float = 0.9
    kv_cache_tokens: int | None = None
    kv_cache_dtype: str = "auto"
    max_running_requests: int = 64
    prefix_cache: bool = True


@dataclass(frozen=True)
class Launch:
    """Everything that one server start needs besides the engine."""

    python: Path
    model: Path
    served_name: str
    device: str
    options: Options
    reasoning_parser: str | None
    trust_remote_code: bool
    seed: int


@dataclass(frozen=True)
class Source:
    """Where a column of server.parquet comes from: a metric of the engine's /metrics page.

    Samples of several label sets are combined by `combine` ("sum" over engine ranks, or "max" for a share).
    absent: the value where the page lacks the metric: None, or 0 for a counter that the engine shows only once it
    has moved.
    """

    metric: str
    combine: str = "sum"
    absent: float | None = None


class Engine(ABC):
    """One serving engine. Subclasses hold facts, not logic: flags, environment, paths, metric and field names."""

    name: ClassVar[str]
    module: ClassVar[str]
    """The Python module that proves the environment works."""
    health_path: ClassVar[str] = "/health"
    flush_path: ClassVar[str]
    """POST here empties the prefix cache, so that no point profits from the one before it."""
    metrics: ClassVar[Mapping[str, Source]]
    counts_think_close: ClassVar[bool]
    """Whether the engine's own reasoning token count includes the closing `</think>`."""
    reasoning_parsers: ClassVar[Mapping[str, str]]
    """Our name of a reasoning parser -> the engine's."""
    advice: ClassVar[Mapping[str, str]]
    """Text found in the log of a server that died -> what the user can do about it."""

    @abstractmethod
    def command(self, launch: Launch, port: int) -> list[str]:
        """Command line of a server on the loopback interface at `port`."""

    @abstractmethod
    def environment(self, launch: Launch) -> dict[str, str]:
        """Environment variables to set on top of the workflow's own."""

    def advise(self, log: Sequence[str]) -> str:
        """What to do about a dead server, from the last lines of its log; empty when nothing is known."""
        text = "\n".join(log)
        return " ".join(advice for needle, advice in self.advice.items() if needle in text)
