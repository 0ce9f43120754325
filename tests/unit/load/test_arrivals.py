"""Arrivals against theory, and real traffic as it is published."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from rllm_serving.load import arrivals, traces
from rllm_serving.load.traces import ArrivalError
from rllm_serving.study.design import Load, Point
from scipy import special, stats

SERVEGEN = Path(os.environ.get("RLLM_SERVING_DATA", "/nowhere")) / "servegen-deepseek-r1"
COUNT, RATE = 20_000, 4.0
QUESTIONS = {"set": [f"question {'x' * n}" for n in range(8)]}


@pytest.mark.parametrize("shape", [1.0, 0.5, 0.25, 0.1])
def test_gaps_follow_the_gamma_distribution_of_their_shape(shape: float) -> None:
    times = arrivals.gamma_arrivals(COUNT, RATE, shape, seed=7)
    gaps = np.diff(times, prepend=0)
    assert times[-1] == pytest.approx(COUNT / RATE) and (gaps >= 0).all()
    assert gaps.mean() == pytest.approx(1 / RATE)
    assert gaps.std() / gaps.mean() == pytest.approx(shape**-0.5, rel=0.05)
    assert fits(gaps, shape) > 0.01
    # Another shape does not fit, or the test would say nothing.
    assert fits(gaps, shape * 1.1) < 0.01


def fits(gaps: np.ndarray, shape: float) -> float:
    """p value of Kolmogorov and Smirnov for gaps of that shape; below 1 ns they drown in the sum of the times."""
    theory, least = stats.gamma(shape, scale=1 / RATE / shape), 1e-9
    beyond = theory.sf(least)
    return float(stats.kstest(gaps[gaps > least], lambda x: 1 - theory.sf(x) / beyond).pvalue)


def test_a_seed_is_an_arrival_process() -> None:
    one, same, other = (arrivals.gamma_arrivals(50, RATE, 0.5, seed) for seed in (1, 1, 2))
    assert np.array_equal(one, same) and not np.array_equal(one, other)


def test_stretching_keeps_the_pattern_and_sets_the_rate() -> None:
    times, factor = arrivals.rescale_to_rate(np.array([100.0, 101.0, 103.0, 109.0]), rate=0.5)
    assert times[-1] == pytest.approx(4 / 0.5) and factor == pytest.approx(8 / 12)
    assert np.diff(times) == pytest.approx(np.array([1, 2, 6]) * factor)
    with pytest.raises(ArrivalError, match="one moment"):
        arrivals.rescale_to_rate(np.array([5.0, 5.0]), 1.0)


def servegen(folder: Path) -> Path:
    """Two clients, one silent in the first window."""
    folder.mkdir()
    (folder / "chunk-0-trace.csv").write_text("0,2,1,Gamma,1.0,0.5\n600,2,1,Gamma,1.0,0.5\n")
    (folder / "chunk-1-trace.csv").write_text("0,0,0,,0,0\n600,1,1,Weibull,1.0,1.0\n")
    for client, length in ((0, 100), (1, 900)):
        lengths = {"input_tokens": f"{{{length}: 1.0}}", "output_tokens": f"{{{length}: 0.5, {length * 2}: 0.5}}"}
        (folder / f"chunk-{client}-dataset.json").write_text(json.dumps({"0": lengths}))
    return folder


def test_servegen_superposes_its_clients_window_by_window(tmp_path: Path) -> None:
    traffic = traces.servegen(servegen(tmp_path / "model"), 0.0, 2500, seed=3)
    assert (np.diff(traffic.times) >= 0).all() and len(traffic.times) == 2500
    early = traffic.times < 600
    assert set(traffic.prompt_tokens[early]) == {100} and early.sum() == pytest.approx(1200, rel=0.1)
    late = traffic.prompt_tokens[~early]
    assert (late == 900).mean() == pytest.approx(1 / 3, abs=0.05)
    assert set(traffic.output_tokens) == {100, 200, 900, 1800}
    with pytest.raises(ArrivalError, match=r"requests from second 600 on, 9000 are asked"):
        traces.servegen(tmp_path / "model", 600.0, 9000, seed=3)
    with pytest.raises(ArrivalError, match=r"no chunk-N-trace\.csv"):
        traces.servegen(tmp_path, 0.0, 1, seed=3)


def written(folder: Path, *clients: list[str]) -> Path:
    """A folder of clients without lengths, each of its windows' rows."""
    folder.mkdir()
    for number, rows in enumerate(clients):
        (folder / f"chunk-{number}-trace.csv").write_text("\n".join(rows))
        (folder / f"chunk-{number}-dataset.json").write_text("{}")
    return folder


def gamma(start: float, rate: float, shape: float) -> str:
    return f"{start:g},{rate},{shape**-0.5},Gamma,{shape},{1 / rate / shape}"


# The last one's scale belongs to another rate, as where a window's requests came in one burst: the rate counts.
BURSTY = {
    "gamma": gamma(0, 2.0, 0.1),
    "weibull": f"0,2.0,4,Weibull,0.4,{0.5 / special.gamma(1 + 1 / 0.4)}",
    "burst": "0,2.0,2.2,Gamma,0.2,0.01",
}


def counts(folder: Path, edges: list[float], seeds: int, count: int = 1) -> np.ndarray:
    """Requests a second between each two of `edges`, mean over many seeds."""
    found = [np.histogram(traces.servegen(folder, 0.0, count, seed).times, edges)[0] for seed in range(seeds)]
    return np.mean(found, axis=0) / np.diff(edges)


@pytest.mark.parametrize("row", BURSTY.values(), ids=BURSTY.keys())
def test_a_bursty_client_has_its_rate_from_the_first_second_on(
    tmp_path: Path, row: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traces, "_first_requests", lambda traffic, count: traffic)
    # All begin with the same window; a gap that began with it would put over three times as many into its first second.
    # The other window says how long the first one is.
    rows = [row, row.replace("0,", "60,", 1)]
    first, later = counts(written(tmp_path / "model", *[rows] * 300), [0.0, 1.0, 60.0], 40)
    assert first == pytest.approx(600, rel=0.05)
    assert (first + 59 * later) / 60 == pytest.approx(600, rel=0.01)


def test_a_clients_process_goes_on_over_the_ends_of_its_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traces, "_first_requests", lambda traffic, count: traffic)
    # Gaps of 400 s, hardly spread, in windows of 600 s: a process that is cut at their ends has others, too.
    steady = written(tmp_path / "steady", [gamma(start, 1 / 400, 1e6) for start in range(0, 6000, 600)])
    times = traces.servegen(steady, 0.0, 14, seed=1).times
    assert np.diff(times) == pytest.approx(400, rel=0.01) and 0 < times[0] < 400
    # From 1 every 400 s to 1 every 100 s: what is left of a gap is stretched with the mean.
    rows = [gamma(0, 1 / 400, 1e6), gamma(600, 1 / 100, 1e6)]
    times = traces.servegen(written(tmp_path / "faster", rows), 0.0, 6, seed=1).times
    before, after = times[times < 600][-1], times[times >= 600]
    assert after[0] - 600 == pytest.approx((before + 400 - 600) / 4, abs=0.5)
    assert np.diff(after) == pytest.approx(100, rel=0.01)


def test_windows_of_other_shapes_and_after_a_silence_have_their_rates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traces, "_first_requests", lambda traffic, count: traffic)
    silent = "1200,0,0,,0,0"
    rows = [gamma(0, 1.0, 0.3), gamma(600, 4.0, 0.3), silent, gamma(1800, 2.0, 0.1), gamma(2400, 2.0, 0.1)]
    folder = written(tmp_path / "model", *[rows] * 10)
    edges = [0.0, 600.0, 620.0, 1200.0, 1800.0, 1820.0, 2400.0, 2420.0, 3000.0]
    found = counts(folder, edges, 40, count=50_000)
    assert found == pytest.approx([10, 40, 40, 0, 20, 20, 20, 20], rel=0.06)
    assert found[[0, 2, 5, 7]] == pytest.approx([10, 40, 20, 20], rel=0.02)


@pytest.mark.skipif(not SERVEGEN.is_dir(), reason="RLLM_SERVING_DATA names no folder with servegen-deepseek-r1")
def test_the_published_traffic_has_its_rate_and_lengths() -> None:
    traffic = traces.servegen(SERVEGEN, 43200.0, 4000, seed=5)
    rate = len(traffic.times) / (traffic.times[-1] - traffic.times[0])
    gaps = np.diff(traffic.times)
    assert 4 < rate < 64 and gaps.std() / gaps.mean() > 1
    assert 1000 < traffic.output_tokens.mean() < 2500 and np.quantile(traffic.output_tokens, 0.99) > 5000


@pytest.mark.parametrize("extra", [["Session ID", "Elapsed time"], []], ids=["8 columns", "6 columns"])
def test_burstgpt_in_both_layouts(tmp_path: Path, extra: list[str]) -> None:
    names = ["Timestamp", *extra, "Model", "Request tokens", "Response tokens", "Total tokens", "Log Type"]
    rows: list[list[object]] = [
        [time, *[0] * len(extra), "GPT-4", 10, answer, 10 + answer, "API"] for time, answer in ((5, 7), (9, 0), (8, 3))
    ]
    file = tmp_path / "BurstGPT.csv"
    file.write_text("\n".join([",".join(names), *(",".join(map(str, row)) for row in rows)]))
    traffic = traces.burstgpt(file, 0.0, 2)
    assert traffic.times.tolist() == [5, 8] and traffic.output_tokens.tolist() == [7, 3]
    with pytest.raises(ArrivalError, match="2 requests from second 0 on, 3 are asked"):
        traces.burstgpt(file, 0.0, 3)
    file.write_text("Timestamp,Model\n1,GPT-4\n")
    with pytest.raises(ArrivalError, match="no column 'request tokens'"):
        traces.burstgpt(file, 0.0, 1)


def test_a_mooncake_trace_counts_milliseconds(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    lines = [{"timestamp": t, "input_length": 9, "output_length": 4, "hash_ids": [0]} for t in (0, 3052, 1500)]
    file.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    assert traces.mooncake(file, 1.0, 2).times.tolist() == [1.5, 3.052]
    file.write_text('{"timestamp": 1}\n{"time": 2}\n')
    with pytest.raises(ArrivalError, match="line 2: no request"):
        traces.mooncake(file, 0.0, 1)


def point(load: Load, repeat: int = 0, samples: int = 1) -> Point:
    return Point("set", load, 64, repeat, None, samples)


def test_a_plan_has_the_arrivals_of_every_point_at_a_share_of_the_slowest_server(tmp_path: Path) -> None:
    poisson, trace = (
        Load("open", load_factor=0.5, burstiness=1.0),
        Load("trace", load_factor=0.5, trace="real", replay_output_lengths=True),
    )
    points = [point(load, repeat) for repeat in (0, 1) for load in (poisson, trace, Load("batch", 4))]
    sources = {"real": {"source": "servegen", "path": str(servegen(tmp_path / "model")), "start_s": 600}}
    table, made = arrivals.schedule_arrivals(points, QUESTIONS, sources, {"a": 8.0, "b": 2.0}, seed=11)
    assert table.num_rows == 4 * 8 and [entry["rate"] for entry in made] == [1.0] * 4
    assert len({entry["seed"] for entry in made}) == 4
    file = tmp_path / "arrivals.parquet"
    pq.write_table(table, file)
    for asked in points[:2] + points[3:5]:
        rows = arrivals.arrivals_for(file, asked)
        times = [row["time"] for row in rows]
        assert times == sorted(times) and times[-1] == pytest.approx(8.0)
    rows = arrivals.arrivals_for(file, points[0])
    assert [row["question"] for row in rows] == list(range(8)) and {row["output_tokens"] for row in rows} == {None}
    real = arrivals.arrivals_for(file, points[1])
    # The longest answer takes the budget, the longest prompts get the longest questions.
    assert max(row["output_tokens"] for row in real) == 64
    assert [row["time"] for row in rows] != [row["time"] for row in arrivals.arrivals_for(file, points[3])]
    with pytest.raises(ArrivalError, match="no arrivals of"):
        arrivals.arrivals_for(file, point(Load("open", load_factor=0.9, burstiness=1.0)))


def test_samples_of_a_question_are_asked_in_a_row_with_numbers_of_their_own() -> None:
    table, _ = arrivals.schedule_arrivals(
        [point(Load("open", rate=2.0, burstiness=1.0), samples=2)], QUESTIONS, {}, {}, seed=1
    )
    assert table["question"].to_pylist()[:4] == [0, 0, 1, 1] and table["sample"].to_pylist()[:4] == [0, 1, 0, 1]


def test_questions_are_matched_to_prompts_by_rank() -> None:
    generator = np.random.default_rng(0)
    texts = ["long question", "q", "middling"]
    assert arrivals.match_by_length_rank(np.array([5.0, 900.0, 40.0]), texts, generator) == [1, 0, 2]
    assert arrivals.match_by_length_rank(np.array([np.nan, 1.0]), texts, generator) == [0, 1]
