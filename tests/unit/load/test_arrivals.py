"""Arrivals against theory, and those of traces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers.traces import servegen
from rllm_serving.load import arrivals
from rllm_serving.load.trace_files import ArrivalError
from rllm_serving.study.design import Load, Point
from scipy import stats

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


def test_lengths_that_fit_stay_as_they_are() -> None:
    lengths, notes = arrivals.scale_lengths(np.array([1.0, 30.0, 64.0]), 64)
    assert lengths == [1, 30, 64]
    assert notes == {"length_factor": 1.0, "length_quantile": 0.95, "at_one": 1, "at_budget": 1}


def test_one_long_answer_does_not_leave_a_token_to_the_others() -> None:
    tokens = np.array([100.0] * 50 + [1000.0] * 49 + [1_000_000.0])
    lengths, notes = arrivals.scale_lengths(tokens, 500)
    assert lengths == [50] * 50 + [500] * 50
    assert notes["length_factor"] == 0.5 and notes["at_one"] == 0 and notes["at_budget"] == 50
    # What is left of a heavy tail at a small budget is said.
    lengths, notes = arrivals.scale_lengths(np.array([1.0] * 10 + [1000.0] * 90), 100)
    assert lengths[:10] == [1] * 10 and notes["at_one"] == 10 and notes["at_budget"] == 90


def test_the_record_says_what_was_done_to_a_trace(tmp_path: Path) -> None:
    file = tmp_path / "BurstGPT.csv"
    rows = [f"{second},GPT-4,10,{answer},0,API" for second, answer in [(5, 90), (5, 9), (9, 0), (8, 300)] * 4]
    file.write_text("\n".join(["Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type", *rows]))
    sources = {"real": {"source": "burstgpt", "path": str(file), "start_s": 0.0}}
    load = Load("trace", rate=1.0, trace="real", replay_output_lengths=True)
    table, (made,) = arrivals.schedule_arrivals([point(load)], QUESTIONS, sources, {}, seed=3)
    assert made["spread_s"] == 1.0 and made["failed_rows"] == 4 and made["sorted_rows"] == 7
    assert max(table["output_tokens"].to_pylist()) == 64 and made["at_budget"] >= 1
    # Requests of one second come at moments of their own, the same with the same seed.
    times = table["time"].to_pylist()
    assert len(set(times)) == len(times) == 8
    assert arrivals.schedule_arrivals([point(load)], QUESTIONS, sources, {}, seed=3)[0] == table
    with pytest.raises(ArrivalError, match=r"^traces\.real\.path: .*BurstGPT\.csv: 12 requests .* 16 are asked"):
        arrivals.schedule_arrivals([point(load, samples=2)], QUESTIONS, sources, {}, seed=3)
