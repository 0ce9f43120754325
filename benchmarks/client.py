"""What the measuring client costs and how far its times are off, beside other clients: see README.md.

uv run python benchmarks/client.py [--quick] [--json] [--environments FOLDER]
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

import numpy as np
import peers
from numpy.typing import NDArray
from rllm_serving.environments import EnvironmentBuildError
from rllm_serving.load import patterns, sse, stream
from rllm_serving.load.client import Driver, HttpExchange, run
from rllm_serving.load.requests import build_http_request
from rllm_serving.measurement import priority, telemetry
from rllm_serving.measurement.engine_metrics import EngineMetrics
from rllm_serving.serving import hardware
from rllm_serving.serving.engines import ENGINES
from rows import BURST, COMPARED, OURS, Row, Rows, draw, table

HERE = peers.HERE
RATE, WIDTH = 1000, 8  # events a second of a stream, and streams at once, where processor time is measured
FEW = 4  # events of the streams whose cost is taken off: SGLang's client asks for no fewer
PEER_STREAMS, TURNS = (
    384,
    2,
)  # streams of a peer's run, and runs of which the cheapest counts: their imports vary by 1 s
SIZES = {250: 1024, 1000: 256, 4000: 64, 32000: 8}  # events a stream: streams, as many events in all for each
QUICK_SIZES = {250: 96, 1000: 24, 4000: 8}
SAMPLE_HZ = 5  # samples of telemetry a second, as a study takes by default
POISSON = 200  # requests a second of the open loop
STAMP = re.compile(rb'"content":"(\d+\.\d+) "')
Numbers = NDArray[np.float64]


@contextmanager
def scripted_server() -> Iterator[int]:
    """The scripted server in a process of its own; yields its port."""
    command = [sys.executable, str(HERE / "scripted_server.py")]
    # Leaving the context closes its standard input, which ends it.
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())


def server_log(port: int) -> list[tuple[str | None, float, float]]:
    """What was streamed since this was last asked: see scripted_server.py."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/log")
    found: list[tuple[str | None, float, float]] = json.loads(connection.getresponse().read())
    connection.close()
    return found


def drive(port: int, model: str, events: int, streams: int, load: Driver, size: int) -> list[HttpExchange]:
    """Our client under a load: `streams` requests of `events` events each, with the fields that a study's have."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "word " * 16}],
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        "return_token_ids": True,
        "max_tokens": events,
        "seed": 1,
        "temperature": 0,
    }
    request = build_http_request("127.0.0.1", port, "/v1/chat/completions", body)
    return [exchange for exchange, _ in run("127.0.0.1", port, [request] * streams, load, size, 600.0)[1]]


def decoded(exchanges: Sequence[HttpExchange], events: int) -> list[stream.RequestResult]:
    """Every stream decoded; RuntimeError unless all of them are whole."""
    outcomes = [stream.decode(exchange) for exchange in exchanges]
    bad = [outcome for outcome in outcomes if outcome.status != "ok" or outcome.output_tokens != events]
    if bad:
        first = f"{bad[0].status}, {bad[0].output_tokens} tokens, {bad[0].error}"
        raise RuntimeError(f"{len(bad)} of {len(outcomes)} streams of {events} events are not whole: {first}")
    return outcomes


def cost(port: int, events: int, streams: int) -> tuple[float, float, float]:
    """Microseconds of processor time per event, of receiving and of decoding, and events per read from a socket.

    The cost of as many streams of FEW events is taken off, as it is for the other clients.
    """

    def once(events: int) -> tuple[Numbers, list[HttpExchange]]:
        start = time.process_time()
        exchanges = drive(port, f"plain-{RATE}", events, streams, patterns.closed, WIDTH)
        received = time.process_time()
        decoded(exchanges, events)
        return np.array([received - start, time.process_time() - received]), exchanges

    little, _ = once(FEW)
    much, exchanges = once(events)
    receiving, decoding = (much - little) / (streams * (events - FEW)) * 1e6
    reads = sum(len(set(exchange.stamps)) for exchange in exchanges)
    return float(receiving), float(decoding), streams * events / reads


def stamp_errors(exchanges: Sequence[HttpExchange]) -> Numbers:
    """Milliseconds from the server's sending of an event to our stamp of it, for all events."""
    pairs = [(stamp, STAMP.search(data)) for e in exchanges for stamp, data, _ in sse.events(e.stamps, e.pieces)]
    return np.array([stamp - float(found[1]) for stamp, found in pairs if found]) * 1e3


def our_cost(port: int, quick: bool) -> tuple[Rows, dict[str, Any]]:
    """What our client costs, at ordinary priority as the others, and the numbers for the figure and the JSON line."""
    rows = Rows()
    costs = {events: cost(port, events, streams) for events, streams in (QUICK_SIZES if quick else SIZES).items()}
    total = {events: receiving + decoding for events, (receiving, decoding, _) in costs.items()}
    for events, (receiving, decoding, per_read) in costs.items():
        note = f"receiving {receiving:.1f}, decoding {decoding:.1f}; {per_read:.2f} events a read"
        rows.judge(f"CPU per event, streams of {events}", total[events], "us", 15, note)
    flat = rows.judge("CPU per event, dearest / cheapest length", max(total.values()) / min(total.values()), "x", 1.2)

    return rows, {"us_per_event": total[COMPARED], "flatness": flat, "lengths": costs}


def our_times(port: int, quick: bool) -> tuple[Rows, dict[str, Any]]:
    """How far our client's times are off, and the numbers for the JSON line."""
    rows, found = Rows(), dict[str, Any]()
    seconds = 3 if quick else 10
    for name, script, streams, rate in (
        ("10,000 events/s of 100 streams", "stamped", 100, 100),
        ("the same, streams in step", "step", 100, 100),
        ("10,000 events/s of 1,000 streams", "stamped", 1000, 10),
    ):
        exchanges = drive(port, f"{script}-{rate}", rate * seconds, streams, patterns.closed, streams)
        decoded(exchanges, rate * seconds)
        p50, p99 = np.percentile(np.abs(stamp_errors(exchanges)), (50, 99)).tolist()
        limits = (0.3, 2.0) if script == "stamped" and streams == 100 else (None, None)
        rows.judge(f"stamp error p50, {name}", p50, "ms", limits[0])
        rows.judge(f"stamp error p99, {name}", p99, "ms", limits[1])
        if streams == 1000:
            rows.append(Row("streams at once, all of them whole", OURS, len(exchanges), ">= 1000", True))
        if limits[0]:
            found |= {"stamp_error_p50_ms": p50, "stamp_error_p99_ms": p99}

    # The same once more with the telemetry of a study beside it, which reads the metrics of this very server.
    vllm = ENGINES["vllm"]
    sampler = telemetry.MetricsSampler(
        port, os.getpid(), EngineMetrics(vllm.metrics), SAMPLE_HZ, telemetry.GpuSampler()
    )
    began = time.monotonic()
    with sampler:
        exchanges = drive(port, "stamped-100", 100 * seconds, 100, patterns.closed, 100)
    share = sampler.cost_s / (time.monotonic() - began)
    decoded(exchanges, 100 * seconds)
    p50, p99 = np.percentile(np.abs(stamp_errors(exchanges)), (50, 99)).tolist()
    beside = f"10,000 events/s of 100 streams, telemetry at {SAMPLE_HZ} Hz"
    rows.judge(f"stamp error p50, {beside}", p50, "ms", 0.3)
    rows.judge(f"stamp error p99, {beside}", p99, "ms", 2.0)
    rows.judge("CPU of telemetry", share * 100, "% of a core", None, f"{sampler.late} samples late")
    found |= {"telemetry_stamp_error_p99_ms": p99, "telemetry_cpu_share": share}

    exchanges = drive(port, "stamped-100", 8, BURST * 5, patterns.batch, BURST)
    outcomes = decoded(exchanges, 8)
    told = [(o.first_token or 0.0) - e.scheduled for o, e in zip(outcomes, exchanges, strict=True)]
    truth = [float(o.answer_text.split()[0]) - e.scheduled for o, e in zip(outcomes, exchanges, strict=True)]
    errors = (np.array(told) - np.array(truth)) * 1e3
    worst = rows.judge(f"TTFT error, burst of {BURST}, worst", float(np.abs(errors).max()), "ms", 5, "of 5 bursts")
    rows.judge(f"TTFT error, burst of {BURST}, median", float(np.median(errors)), "ms")
    found["burst_ttft_error_ms"] = worst

    times = np.cumsum(np.random.default_rng(1).exponential(1 / POISSON, POISSON * seconds)).tolist()
    exchanges = drive(port, "plain-100", 16, len(times), partial(patterns.open_loop, times=times), 16)
    decoded(exchanges, 16)
    lags = np.abs([(e.sent or 0.0) - e.scheduled for e in exchanges]) * 1e3
    p50, p99 = np.percentile(lags, (50, 99)).tolist()
    rows.judge(f"schedule lag p50, {POISSON} requests/s", p50, "ms")
    found["schedule_lag_p99_ms"] = rows.judge(f"schedule lag p99, {POISSON} requests/s", p99, "ms", 2)
    return rows, found


def theirs(port: int, peer: peers.Peer, ready: Path, folder: Path) -> list[Row]:
    """A peer's rows; one that cannot be installed or run has a row that says why."""
    what = f"CPU per event, streams of {COMPARED} (us)"
    title = peer.title
    rows: list[Row] = []
    try:
        python, version = peers.environment(peer, ready)
        title = f"{peer.title} {version}"
        prompts = ["word " * 16] * PEER_STREAMS
        spent: dict[int, list[float]] = {FEW: [], COMPARED: []}
        for turn, events in product(range(TURNS), spent):
            load = peers.Load(port, f"plain-{RATE}", peers.WORDS, prompts, WIDTH, events)
            spent[events].append(peers.call(peer, python, load, folder / f"{events}-{turn}").cpu_s)
        more = min(spent[COMPARED]) - min(spent[FEW])
        note = "; ".join(
            f"{' and '.join(f'{cpu_s:.1f}' for cpu_s in runs)} s with {events} events a stream"
            for events, runs in spent.items()
        )
        rows.append(Row(what, title, more / (PEER_STREAMS * (COMPARED - FEW)) * 1e6, note=note))
        what = f"TTFT error, burst of {BURST}, worst (ms)"
        server_log(port)
        load = peers.Load(port, "stamped-100", peers.WORDS, ["word " * 16] * BURST, BURST, 8, detailed=True)
        told = peers.call(peer, python, load, folder / "burst")
        errors = ttft_errors(told, server_log(port)) * 1e3
        rows.append(Row(what, title, float(np.abs(errors).max())))
        rows.append(Row(what.replace("worst", "median"), title, float(np.median(errors))))
    except (peers.PeerError, EnvironmentBuildError, OSError) as error:
        rows.append(Row(what, title, None, note=" ".join(str(error).split())[:300].replace(str(peers.ROOT), "")))
    return rows


def ttft_errors(told: peers.Told, log: Sequence[tuple[str | None, float, float]]) -> Numbers:
    """Seconds by which a peer's TTFTs are off: from the arrival of the burst's first request to each first event.

    When a peer scheduled its burst it does not tell; the first arrival is later, which favours it.
    """
    start = min(came for _, came, _ in log)
    sent = {key: first for request, _, first in log for key in (request, f"{first:.7f}")}
    if missing := [key for key in told.first if key not in sent]:
        raise peers.PeerError(f"{len(missing)} of its requests are not in the server's log, such as {missing[0]!r}")
    if len(told.ttft_s) != len(told.first):
        raise peers.PeerError(f"{len(told.ttft_s)} TTFTs told for {len(told.first)} requests")
    return np.array(told.ttft_s) - np.array([sent[key] - start for key in told.first])


def main() -> None:
    """Measure, print, and write client.json and client.png beside this file (not with --quick)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="our client alone, in less than 45 s; writes no files")
    parser.add_argument("--json", action="store_true", help="the main numbers as one line of JSON at the end")
    ready = HERE.parent / "resources" / "environments"
    parser.add_argument("--environments", type=Path, default=ready, help="folder of ready environments")
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with scripted_server() as port, tempfile.TemporaryDirectory() as scratch:
        rows, found = our_cost(port, options.quick)
        with priority.realtime_priority() as first:  # as a study measures; the server keeps its ordinary priority
            more, times = our_times(port, options.quick)
        rows += more
        found |= times | {"realtime": first}
        if not options.quick:
            for peer in peers.PEERS:
                rows += theirs(port, peer, options.environments, Path(scratch) / peer.package)
            others = [row.value for row in rows if row.client != OURS and row.what.startswith("CPU") and row.value]
            share = found["us_per_event"] / min(others) if others else None
            reached = share <= 0.5 if share is not None else None
            note = "" if others else "no peer could be measured"
            rows.append(Row("CPU per event, ours / the cheapest peer's (x)", OURS, share, "<= 0.5 x", reached, note))
            found["share_of_cheapest_peer"] = share
    print(table(rows), f"our times at {'real-time' if first else 'ordinary'} priority", sep="\n")
    if not options.quick:
        machine = {key: value for key, value in hardware.describe().items() if key in ("cpu", "cores", "gpus")}
        record = {"date": datetime.now(UTC).date().isoformat(), "machine": machine, "realtime": first}
        record["rows"] = [asdict(row) for row in rows]
        (HERE / "client.json").write_text(json.dumps(record, indent=1) + "\n")
        draw(rows, found, HERE / "client.png")
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
