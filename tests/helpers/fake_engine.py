"""An engine class that starts the mock server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from helpers.mock_server import PROGRAM
from rllm_serving.serving.engines import ENGINES, Engine, ServerConfig


class FakeEngine(Engine):
    """Starts the mock server, or another program."""

    name = title = "fake"
    module = "json"
    distributions = ("fake",)
    flush_path = "/reset_prefix_cache"
    metrics = ENGINES["vllm"].metrics
    kernels: ClassVar[Mapping[str, str]] = {"listener": r"^(\w+)$"}
    counts_think_close = False
    values: ClassVar[Mapping[str, Mapping[str, str]]] = {}
    refused: ClassVar[Mapping[tuple[str, str, str], str]] = {}
    advice: ClassVar[Mapping[str, str]] = {}

    def __init__(self, *arguments: object, program: str | None = None) -> None:
        self.arguments, self.program = [str(a) for a in arguments], program

    def command(self, config: ServerConfig, port: int) -> list[str]:
        if self.program is not None:
            return [str(config.python), "-c", self.program]
        return [*PROGRAM, "--port", str(port), *self.arguments]

    def environment(self, config: ServerConfig) -> dict[str, str]:
        return {"FAKE_ENGINE": "here"}
