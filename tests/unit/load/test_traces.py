"""Traffic of traces: as many requests as are published, from whom and how long, when they came."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.traces import AZURE, BURSTGPT, clients, gamma, servegen
from rllm_serving.load.servegen_files import read_folder
from rllm_serving.load.trace_files import ArrivalError
from rllm_serving.load.traces import RecordedTraffic, ServegenTraffic, Trace, open_trace
from scipy import special

SERVEGEN = Path(os.environ.get("RLLM_SERVING_DATA", "/nowhere")) / "servegen-deepseek-r1"
needs_servegen = pytest.mark.skipif(
    not SERVEGEN.is_dir(), reason="RLLM_SERVING_DATA names no folder with servegen-deepseek-r1"
)


def test_servegen_superposes_its_clients_window_by_window(tmp_path: Path) -> None:
    traffic = ServegenTraffic(servegen(tmp_path / "model"))
    trace = traffic.requests(0.0, 2500, seed=3)
    assert (np.diff(trace.times) >= 0).all() and len(trace.times) == 2500
    early = trace.times < 600
    assert set(trace.prompt_tokens[early]) == {100} and early.sum() == 1200
    assert (trace.prompt_tokens[~early] == 900).mean() == pytest.approx(1 / 3, abs=0.05)
    assert set(trace.output_tokens) == {100, 200, 900, 1800}
    assert np.array_equal(trace.times, traffic.requests(0.0, 2500, seed=3).times)
    assert not np.array_equal(trace.times, traffic.requests(0.0, 2500, seed=4).times)
    with pytest.raises(ArrivalError, match=r"1800 requests from second 600 on, 9000 are asked"):
        traffic.requests(600.0, 9000, seed=3)


# The last one's scale belongs to another rate, as where a window's requests came in one burst: the rate counts.
BURSTY = {
    "gamma": gamma(0, 2.0, 0.1),
    "weibull": f"0,2.0,4,Weibull,0.4,{0.5 / special.gamma(1 + 1 / 0.4)}",
    "burst": "0,2.0,2.2,Gamma,0.2,0.01",
}


def counts(folder: Path, edges: list[float], seeds: int) -> np.ndarray:
    """Requests a second between each two of `edges`, mean over many seeds."""
    traffic = ServegenTraffic(folder)
    asked = int(read_folder(folder).expected(0.0))
    found = [np.histogram(traffic.requests(0.0, asked, seed).times, edges)[0] for seed in range(seeds)]
    return np.mean(found, axis=0) / np.diff(edges)


@pytest.mark.parametrize("row", BURSTY.values(), ids=BURSTY.keys())
def test_a_bursty_client_has_its_rate_in_the_first_second_the_last_and_all(tmp_path: Path, row: str) -> None:
    # All begin with the same window; gaps that began with it would put over three times as many into its first second.
    # The other window says how long the first one is.
    rows = [row, row.replace("0,", "60,", 1)]
    folder = clients(tmp_path / "model", *[rows] * 300)
    first, middle, last, second = counts(folder, [0.0, 1.0, 59.0, 60.0, 120.0], 40)
    assert [first, last] == pytest.approx([600, 600], rel=0.06)
    assert (first + 58 * middle + last) / 60 == pytest.approx(600) and second == pytest.approx(600, rel=1e-3)


def test_a_clients_process_goes_on_over_the_ends_of_its_windows(tmp_path: Path) -> None:
    # Gaps of 400 s, hardly spread, in windows of 600 s: a process that is cut at their ends has others, too.
    steady = clients(tmp_path / "steady", [gamma(start, 1 / 400, 1e6) for start in range(0, 6000, 600)])
    times = ServegenTraffic(steady).requests(0.0, 14, seed=1).times
    assert np.diff(times) == pytest.approx(400, rel=0.01) and 0 < times[0] < 400
    # From 1 every 400 s to 1 every 100 s: what is left of a gap is stretched with the mean.
    rows = [gamma(0, 1 / 400, 1e6), gamma(600, 1 / 100, 1e6)]
    times = ServegenTraffic(clients(tmp_path / "faster", rows)).requests(0.0, 6, seed=1).times
    before, after = times[times < 600][-1], times[times >= 600]
    assert after[0] - 600 == pytest.approx((before + 400 - 600) / 4, abs=0.5)
    assert np.diff(after) == pytest.approx(100, rel=0.01)


def test_windows_of_other_shapes_and_after_a_silence_have_their_rates(tmp_path: Path) -> None:
    silent = "1200,0,0,,0,0"
    rows = [gamma(0, 1.0, 0.3), gamma(600, 4.0, 0.3), silent, gamma(1800, 2.0, 0.1), gamma(2400, 2.0, 0.1)]
    folder = clients(tmp_path / "model", *[rows] * 10)
    found = counts(folder, [0.0, 600.0, 1200.0, 1800.0, 2400.0, 3000.0], 4)
    assert found[:4] == pytest.approx([10, 40, 0, 20]) and found[4] == pytest.approx(20, rel=1e-3)
    found = counts(folder, [580.0, 600.0, 620.0, 1800.0, 1820.0, 2390.0, 2410.0], 60)
    assert found[[0, 1, 3, 5]] == pytest.approx([10, 40, 20, 20], rel=0.12)


@pytest.mark.parametrize("shape", [1e-300, 1e-9, 0.001, 1e12])
@pytest.mark.parametrize("gaps", ["Gamma", "Weibull"])
def test_any_shape_of_gaps_gives_as_many_requests_as_the_rate_says(tmp_path: Path, gaps: str, shape: float) -> None:
    rows = [f"{start},0.5,9,{gaps},{shape},1e-300" for start in (0, 600)]
    times = ServegenTraffic(clients(tmp_path / "model", rows)).requests(0.0, 599, seed=1).times
    assert np.isfinite(times).all() and (times < 600).sum() == 300 and (np.diff(times) >= 0).all()


def test_work_is_bounded_by_the_requests_that_are_asked(tmp_path: Path) -> None:
    rows = [f"{start},1000000,1,Gamma,0.5,1e-9" for start in (0, 600)]
    began = time.process_time()
    times = ServegenTraffic(clients(tmp_path / "model", rows)).requests(1000.0, 100, seed=1).times
    assert time.process_time() - began < 2
    assert len(times) == 100 and times[0] >= 1000 and times[-1] < 1000.1


def test_offsets_count_from_the_first_request(tmp_path: Path) -> None:
    later = clients(tmp_path / "model", ["43200,0,0,,0,0", gamma(43800, 1.0, 1.0), gamma(44400, 2.0, 1.0)])
    times = ServegenTraffic(later).requests(600.0, 100, seed=1).times
    assert times[0] >= 44400 and times[-1] < 44500
    file = tmp_path / "trace.jsonl"
    file.write_text("\n".join(f'{{"timestamp": {1000 * second}}}' for second in (70, 71, 75, 90)))
    assert RecordedTraffic("mooncake", file).requests(5.0, 2, seed=1).times.tolist() == [5, 20]


def test_lengths_are_the_last_ones_told_before(tmp_path: Path) -> None:
    folder = clients(tmp_path / "model", [gamma(start, 0.1, 1.0) for start in (0, 600, 1200)])
    empty = {"input_tokens": "{}", "output_tokens": "{}"}
    told = {"input_tokens": {"7": 1.0}, "output_tokens": "{9: 2}"}
    (folder / "chunk-0-dataset.json").write_text(json.dumps({"0": empty, "600": told, "1200": empty}))
    trace = ServegenTraffic(folder).requests(0.0, 170, seed=1)
    assert np.isnan(trace.prompt_tokens[trace.times < 600]).all()
    assert set(trace.prompt_tokens[trace.times >= 600]) == {7} and set(trace.output_tokens[-60:]) == {9}


def means(folder: Path, start: float) -> tuple[float, np.ndarray, float, float]:
    """Of a window that begins at `start`, as published: requests/s, each client's, mean prompt and output tokens."""
    published = read_folder(folder)
    rates = np.array([client.windows[start].rate if start in client.windows else 0.0 for client in published.clients])
    lengths = []
    for client, rate in zip(published.clients, rates, strict=True):
        told = client.lengths_from(start)
        if rate > 0 and told is not None:
            pairs = [np.array(list(part.items())) for part in client.lengths(told)]
            lengths.append([rate, *(np.average(part[:, 0], weights=part[:, 1]) for part in pairs)])
    table = np.array(lengths)
    prompt, output = np.average(table[:, 1:], axis=0, weights=table[:, 0])
    return float(rates.sum()), rates, float(prompt), float(output)


def drawn(folder: Path, start: float, rate: float, seed: int) -> Trace:
    """All requests of a window."""
    first = read_folder(folder).starts[0]
    trace = ServegenTraffic(folder).requests(start - first, round(600 * rate), seed)
    within = trace.times < start + 600
    return Trace(trace.times[within], trace.prompt_tokens[within], trace.output_tokens[within])


@needs_servegen
@pytest.mark.parametrize("start", [0.0, 21600.0, 43200.0, 56400.0, 72000.0])
def test_published_traffic_has_its_rate_mix_and_lengths(tmp_path: Path, start: float) -> None:
    rate, rates, prompt, output = means(SERVEGEN, start)
    trace = drawn(SERVEGEN, start, rate, seed=5)
    assert len(trace.times) / 600 == pytest.approx(rate, rel=0.05)
    assert np.nanmean(trace.prompt_tokens) == pytest.approx(prompt, rel=0.05)
    assert np.nanmean(trace.output_tokens) == pytest.approx(output, rel=0.05)
    # The same folder with lengths that tell who sent a request.
    told = tmp_path / "told"
    told.mkdir()
    for number, client in enumerate(read_folder(SERVEGEN).clients):
        name = client.file.name.replace("dataset.json", "trace.csv")
        shutil.copy(client.file.with_name(name), told / name)
        lengths = {"0": {"input_tokens": f"{{{number}: 1}}", "output_tokens": "{1: 1}"}}
        (told / client.file.name).write_text(json.dumps(lengths))
    trace = drawn(told, start, rate, seed=6)
    mix = np.bincount(trace.prompt_tokens.astype(int), minlength=len(rates)) / len(trace.times)
    assert mix == pytest.approx(rates / rates.sum(), abs=0.002)


@pytest.mark.parametrize("extra", [["Session ID", "Elapsed time"], []], ids=["8 columns", "6 columns"])
def test_burstgpt_in_both_layouts(tmp_path: Path, extra: list[str]) -> None:
    names = ["Timestamp", *extra, "Model", "Request tokens", "Response tokens", "Total tokens", "Log Type"]
    rows: list[list[object]] = [
        [time, *[0] * len(extra), "GPT-4", 10, answer, 10 + answer, "API"] for time, answer in ((5, 7), (9, 0), (8, 3))
    ]
    file = tmp_path / "BurstGPT.csv"
    file.write_text("\n".join([",".join(names), *(",".join(map(str, row)) for row in rows)]))
    traffic = RecordedTraffic("burstgpt", file)
    trace = traffic.requests(0.0, 2, seed=1)
    assert np.floor(trace.times).tolist() == [0, 3] and trace.output_tokens.tolist() == [7, 3]
    with pytest.raises(ArrivalError, match="2 requests from second 0 on, 3 are asked"):
        traffic.requests(0.0, 3, seed=1)


def test_whole_seconds_are_spread_evenly_and_others_are_left(tmp_path: Path) -> None:
    file = tmp_path / "BurstGPT.csv"
    file.write_text("\n".join([BURSTGPT, *["40,GPT-4,10,7,17,API"] * 4000]))
    traffic = RecordedTraffic("burstgpt", file)
    times = traffic.requests(0.0, 4000, seed=1).times
    assert traffic.notes["spread_s"] == 1 and (np.diff(times) >= 0).all() and times[0] >= 0 and times[-1] < 1
    assert np.histogram(times, 4, (0, 1))[0] == pytest.approx(1000, rel=0.1)
    assert np.array_equal(times, traffic.requests(0.0, 4000, seed=1).times)
    assert not np.array_equal(times, traffic.requests(0.0, 4000, seed=2).times)
    file.write_text("\n".join([BURSTGPT, "40.5,GPT-4,10,7,17,API", "42,GPT-4,10,7,17,API"]))
    assert RecordedTraffic("burstgpt", file).requests(0.0, 2, seed=1).times.tolist() == [0, 1.5]


def test_azure_tells_date_and_time(tmp_path: Path) -> None:
    file = tmp_path / "azure.csv"
    rows = ["2023-11-16 23:59:59.5000000,4808,10", "2023-11-17 00:00:01.2500000,3180,8"]
    file.write_text("\n".join([AZURE, *rows]))
    trace = open_trace("a", {"source": "azure", "path": str(file)}).requests(0.0, 2, seed=1)
    assert trace.times == pytest.approx([0, 1.75], abs=1e-5)
    assert trace.prompt_tokens.tolist() == [4808, 3180] and trace.output_tokens.tolist() == [10, 8]
    # As in the later files: with a zone.
    file.write_text("\n".join([AZURE, "2024-05-10 00:00:00.009930+00:00,1,2", "2024-05-10 00:00:03.009930+00:00,3,4"]))
    assert RecordedTraffic("azure", file).requests(0.0, 2, seed=1).times == pytest.approx([0, 3], abs=1e-5)


def test_a_mooncake_trace_counts_milliseconds(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    lines: list[dict[str, Any]] = [
        {"timestamp": t, "input_length": 9, "output_length": 4, "hash_ids": [0]} for t in (0, 3052, 1500)
    ]
    file.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    traffic = RecordedTraffic("mooncake", file)
    assert traffic.requests(1.0, 2, seed=1).times.tolist() == [1.5, 3.052] and traffic.notes["sorted_rows"] == 1


def test_a_fault_is_told_with_the_key_of_the_config(tmp_path: Path) -> None:
    file = tmp_path / "azure.csv"
    file.write_text(f"{AZURE}\n1700000000,1,2\n")
    with pytest.raises(ArrivalError, match=r"^traces\.busy\.path: .*azure\.csv, row 2: TIMESTAMP is '1700000000'; "):
        open_trace("busy", {"source": "azure", "path": str(file)})
