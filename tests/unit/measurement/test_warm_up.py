"""When a server counts as warm, and how often a point is sampled."""

from __future__ import annotations

import pytest
from rllm_serving.load.stream import RequestResult
from rllm_serving.measurement import sampling
from rllm_serving.measurement.warm_up import is_steady, tokens_per_s


@pytest.mark.parametrize(
    ("rates", "steady"),
    [([], False), ([100.0], False), ([50.0, 100.0], False), ([50.0, 100.0, 96.0], True), ([100.0, 94.0], False)],
)
def test_it_is_steady_when_two_rounds_agree(rates: list[float], steady: bool) -> None:
    assert is_steady(rates, 0.05) is steady


def test_rounds_without_an_answer_never_agree() -> None:
    failed = RequestResult(status="timeout", output_tokens=40)
    assert tokens_per_s(1.0, [failed]) == 0 and not is_steady([0.0, 0.0], 0.05)


def test_the_rate_of_a_round_is_that_of_its_tokens_until_the_last() -> None:
    results = [RequestResult(last_token=end, output_tokens=count) for end, count in ((2.0, 10), (5.0, 30))]
    assert tokens_per_s(1.0, results) == 40 / 4


@pytest.mark.parametrize(("seconds", "least", "most"), [(0.8, 20, 30), (2.0, 25, 40), (60.0, 300, 360)])
def test_short_points_have_samples_too_and_long_ones_not_more_than_asked(seconds: float, least: int, most: int) -> None:
    count, time = 0, 0.0
    while time <= seconds:
        count, time = count + 1, time + sampling.interval(time, 5.0)
    assert least <= count <= most
    assert sampling.interval(0.0, 5.0) == 1 / sampling.HIGHEST_HZ and sampling.interval(100.0, 5.0) == 0.2
