"""Reads command lines with an engine's own argument parser; runs in that engine's environment, once for all lines.

`python parsing.py ENGINE ASKED ANSWERS`: ASKED is JSON, a list of {"command", "environment", "device"}; ANSWERS
becomes a list as long: null, or what is wrong with the line.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

Read = Callable[[list[str], str], object]
"""Takes the arguments and the device of a line; raises what is wrong with them."""
Knows = Callable[[str], bool]
"""Whether the engine knows an environment variable with its prefix."""


def refuse(message: str) -> NoReturn:
    """Instead of argparse's own way of failing, which ends the process."""
    raise ValueError(message)


def check_flags(arguments: list[str], parser: argparse.ArgumentParser) -> None:
    """Flags must be there as they are written: argparse also takes the beginning of another one for it."""
    known = parser._option_string_actions
    if unknown := [word for word in arguments if word.startswith("--") and word not in known]:
        refuse(f"no such flag: {', '.join(unknown)}")


def register_bitsandbytes() -> None:
    """The names that vllm-bnb-plugin, which is in the CUDA lock alone, adds to vLLM; test_cuda_starts has it itself."""
    from vllm.model_executor.layers.quantization import get_quantization_config, register_quantization_config
    from vllm.model_executor.model_loader import register_model_loader
    from vllm.model_executor.model_loader.dummy_loader import DummyModelLoader

    class BitsAndBytesConfig(get_quantization_config("fp8")):  # type: ignore[misc]
        """Applied while weights are loaded, as FP8 may be."""

        @classmethod
        def get_name(cls) -> str:
            return "bitsandbytes"

    register_quantization_config("bitsandbytes")(BitsAndBytesConfig)
    register_model_loader("bitsandbytes")(DummyModelLoader)


def vllm() -> tuple[Read, Knows]:
    """vLLM: parser, its checks, engine arguments and the whole engine configuration, speculation included."""
    from vllm import envs
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
    from vllm.reasoning import ReasoningParserManager
    from vllm.usage.usage_lib import UsageContext
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    register_bitsandbytes()
    parser = make_arg_parser(FlexibleArgumentParser())
    parser.error = refuse

    def read(arguments: list[str], device: str) -> object:
        check_flags(arguments, parser)
        parsed = parser.parse_args(arguments)
        validate_parsed_serve_args(parsed)
        # Names of reasoning parsers are no choices of the parser: they are looked up when the server is up.
        if parsed.reasoning_parser:
            ReasoningParserManager.get_reasoning_parser(parsed.reasoning_parser)
        return AsyncEngineArgs.from_cli_args(parsed).create_engine_config(UsageContext.OPENAI_API_SERVER)

    return read, lambda name: name in envs.environment_variables


def sglang() -> tuple[Read, Knows]:
    """SGLang: parser, the resolution of all arguments against the model, and the checks before a server starts."""
    import sglang
    import torch
    from sglang.srt.environ import envs
    from sglang.srt.layers.torchao_utils import apply_torchao_config_to_model
    from sglang.srt.server_args import ServerArgs

    parser = argparse.ArgumentParser()
    ServerArgs.add_cli_args(parser)
    parser.error = refuse  # type: ignore[method-assign]
    sources = Path(sglang.__file__).parent / "srt"

    def read(arguments: list[str], device: str) -> object:
        check_flags(arguments, parser)
        # On a machine with a GPU SGLang finds it by itself; here it has to be told.
        device_flags = ["--device", device] if "--device" not in arguments else []
        server = ServerArgs.from_cli_args(parser.parse_args([*arguments, *device_flags]))
        server.check_server_args()
        # Looked at only when the weights are there.
        layer = torch.nn.ModuleDict({"proj": torch.nn.Linear(64, 64, dtype=torch.bfloat16)})
        apply_torchao_config_to_model(layer, server.torchao_config)
        return server

    def knows(name: str) -> bool:
        # Most variables are declared; some are read straight from the environment, by their name in quotes.
        return hasattr(type(envs), name) or any(f'"{name}"' in file.read_text() for file in sources.rglob("*.py"))

    return read, knows


@contextlib.contextmanager
def surroundings(variables: Mapping[str, str]) -> Iterator[None]:
    """The line's environment variables, and what the engine makes of them, for this line alone."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def main(engine: str, asked: Path, answers: Path) -> None:
    """Read every line of `asked`; one that is wrong does not keep the others from being read."""
    read, knows = {"vllm": vllm, "sglang": sglang}[engine]()
    complaints: list[str | None] = []
    for line in json.loads(asked.read_text()):
        _, _, module, *arguments = line["command"]
        complaints.append(_complaint(line, module, arguments, engine, read, knows))
    answers.write_text(json.dumps(complaints))


def _complaint(
    line: Mapping[str, Any], module: str, arguments: list[str], engine: str, read: Read, knows: Knows
) -> str | None:
    if importlib.util.find_spec(module) is None:
        return f"no module {module} to start"
    prefix = f"{engine.upper()}_"
    if unknown := [name for name in line["environment"] if name.startswith(prefix) and not knows(name)]:
        return f"no such environment variable: {', '.join(unknown)}"
    try:
        with surroundings(line["environment"]):
            read(arguments, line["device"])
    except (Exception, SystemExit) as error:
        return f"{type(error).__name__}: {error}"
    return None


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
