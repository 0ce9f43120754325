"""The engines that a study can serve with; adding one is adding its class here."""

from __future__ import annotations

from .base import SAMPLED_SPECULATION, Engine, MetricSource, Options, ServerConfig, Told
from .sglang import Sglang
from .vllm import Vllm

ENGINES: dict[str, Engine] = {engine.name: engine for engine in (Vllm(), Sglang())}

__all__ = ["ENGINES", "SAMPLED_SPECULATION", "Engine", "MetricSource", "Options", "ServerConfig", "Told"]
