"""Whether our client and the engines' own tell the same of the same real server under the same load: see README.md.

uv run python benchmarks/agreement.py [--model FOLDER] [--environments FOLDER] [--rounds N]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

import numpy as np
import peers
from matplotlib import rc_context
from matplotlib.figure import Figure
from rllm_serving.environments import EnvironmentBuildError
from rllm_serving.load import patterns, stream
from rllm_serving.load.client import run
from rllm_serving.load.requests import build_http_request
from rllm_serving.measurement import priority
from rllm_serving.report.figures import style
from rllm_serving.serving import hardware
from rllm_serving.serving.engines import ENGINES, Options, ServerConfig
from rllm_serving.serving.server import Server

OURS = "ours"
NAME = "model"
SIZE, TOKENS = 8, 128  # requests in flight, and tokens of each answer
PROMPTS = [f"What is {a} + {3 * a + 1}?" for a in range(1, 257)]
METRICS = {"ttft": "mean TTFT (ms)", "tpot": "mean TPOT (ms)", "output_throughput": "tokens/s"}
Means = dict[str, float]


def ours(port: int) -> Means:
    """Our client's means; it asks for the same as vLLM's does. RuntimeError when a request did not go well."""
    common = {"model": NAME, "max_completion_tokens": TOKENS, "ignore_eos": True, "temperature": 0}
    common |= {"stream": True, "stream_options": {"include_usage": True}}
    bodies = [{**common, "messages": [{"role": "user", "content": prompt}]} for prompt in PROMPTS]
    requests = [build_http_request("127.0.0.1", port, "/v1/chat/completions", body) for body in bodies]
    start, results = run("127.0.0.1", port, requests, patterns.closed, SIZE, 600.0)
    ttft, tpot = [], []
    for exchange, _ in results:
        seen = stream.decode(exchange)
        if seen.status != "ok" or seen.output_tokens != TOKENS or seen.first_token is None or seen.last_token is None:
            raise RuntimeError(f"a request of ours: {seen.status}, {seen.output_tokens} tokens, {seen.error}")
        ttft.append(seen.first_token - exchange.scheduled)
        tpot.append((seen.last_token - seen.first_token) / (TOKENS - 1))
    end = max(exchange.closed or start for exchange, _ in results)
    return means(float(np.mean(ttft)), float(np.mean(tpot)), len(results) * TOKENS / (end - start))


def means(ttft_s: float, tpot_s: float, output_throughput: float) -> Means:
    """In the units of METRICS."""
    return {"ttft": ttft_s * 1e3, "tpot": tpot_s * 1e3, "output_throughput": output_throughput}


def theirs(peer: peers.Peer, ready: Path, load: peers.Load, scratch: Path) -> Callable[[], Means]:
    """A peer, ready to be called again and again."""
    python, _ = peers.environment(peer, ready)

    def measured() -> Means:
        told = peers.call(peer, python, load, Path(tempfile.mkdtemp(dir=scratch)) / peer.package)
        return means(told.ttft, told.tpot, told.output_throughput)

    return measured


def measure(server: Server, model: Path, ready: Path, rounds: int, scratch: Path) -> dict[str, Any]:
    """Each client's means, a dict a round, or the reason why it has none; the order turns from round to round."""
    found: dict[str, Any] = {OURS: []}
    clients: dict[str, Callable[[], Means]] = {OURS: lambda: ours(server.port)}
    load = peers.Load(server.port, NAME, model, PROMPTS, SIZE, TOKENS)
    for peer in peers.PEERS[:2]:
        try:
            clients[peer.title], found[peer.title] = theirs(peer, ready, load, scratch), []
        except (EnvironmentBuildError, OSError) as error:
            found[peer.title] = str(error)
    ours(server.port)  # no client pays for the server's first time
    names = list(clients)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            if isinstance(found[name], str):
                continue
            server.flush()
            try:
                found[name].append(clients[name]())
                print(f"round {turn + 1} of {rounds}: {name}", flush=True)
            except (peers.PeerError, OSError) as error:
                found[name] = str(error)
    return found


def compare(found: dict[str, Any]) -> list[dict[str, Any]]:
    """A row a metric and client: mean and spread (largest less smallest) over the rounds, and difference from ours.

    A peer agrees when its mean differs from ours by no more than the larger of the two spreads.
    """
    rows: list[dict[str, Any]] = []
    for metric, title in METRICS.items():
        mine = np.array([one[metric] for one in found[OURS]])
        for client, values in found.items():
            row: dict[str, Any] = {"metric": title, "client": client}
            if isinstance(values, str):
                rows.append({**row, "reason": values})
                continue
            told = np.array([one[metric] for one in values])
            apart, spread = float(told.mean() - mine.mean()), float(np.ptp(told))
            agrees = None if client == OURS else abs(apart) <= max(spread, float(np.ptp(mine)))
            row |= {"mean": float(told.mean()), "spread": spread, "difference": apart}
            rows.append({**row, "agrees": agrees})
    return rows


def line(row: dict[str, Any]) -> str:
    """A row as text."""
    head = f"{row['metric']:16} {row['client']:22}"
    if "reason" in row:
        return f"{head} none: {row['reason']}"
    word = {True: "agrees", False: "DIFFERS", None: ""}[row["agrees"]]
    return f"{head} {row['mean']:9.2f}  spread {row['spread']:8.2f}  difference {row['difference']:+8.2f}  {word}"


def draw(found: dict[str, Any], path: Path) -> None:
    """A panel a metric: each round's mean as a dot and the mean of the rounds as a line, by client."""
    shown = {client: values for client, values in found.items() if not isinstance(values, str)}
    with rc_context(style.RC):
        figure = Figure(figsize=(style.WIDTH, 2.8))
        panels = figure.subplots(1, len(METRICS))
        for axes, (metric, title) in zip(panels, METRICS.items(), strict=True):
            for place, rounds in enumerate(shown.values()):
                values = [one[metric] for one in rounds]
                axes.plot([place] * len(values), values, "o", alpha=0.6)
                axes.plot([place - 0.2, place + 0.2], [np.mean(values)] * 2, color=style.GREY)
            axes.set_xticks(range(len(shown)), [client.replace(" ", "\n") for client in shown])
            axes.set(title=title, ylim=(0, None), xlim=(-0.5, len(shown) - 0.5))
        figure.savefig(path, dpi=200)


def main() -> None:
    """Serve, measure, print, and write agreement.json and agreement.png beside this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    resources = peers.ROOT / "resources"
    model = resources / "models" / "micro-rllm" / "checkpoint"
    parser.add_argument("--model", type=Path, default=model, help="folder of the checkpoint that vLLM serves")
    parser.add_argument("--environments", type=Path, default=resources / "environments", help="ready environments")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    served = Options(context_length=512, kv_cache_tokens=8192, max_running_requests=SIZE)
    python, version = peers.environment(peers.PEERS[0], options.environments)
    # Without a reasoning parser all text is the answer's: the clients know different names of thinking.
    launch = ServerConfig(python, options.model.resolve(), None, NAME, "cpu", served, None, False, 1)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        # All clients at the same, ordinary priority, above the server's: see rllm_serving/measurement/priority.py.
        log, niceness = scratch / "server.log", priority.SERVER_NICENESS
        with Server(ENGINES["vllm"], launch, log, 600.0, niceness=niceness) as server:
            found = measure(server, launch.model, options.environments, options.rounds, scratch)
    rows = compare(found)
    print("\n".join(line(row) for row in rows))
    machine = {key: value for key, value in hardware.describe().items() if key in ("cpu", "cores", "gpus")}
    record = {"date": datetime.now(UTC).date().isoformat(), "machine": machine, "engine": f"vLLM {version}"}
    (peers.HERE / "agreement.json").write_text(json.dumps({**record, "rounds": found, "rows": rows}, indent=1) + "\n")
    draw(found, peers.HERE / "agreement.png")


if __name__ == "__main__":
    main()
