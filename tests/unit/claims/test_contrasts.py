"""Effects and their errors: known answers, and agreement with the comparisons of the analysis."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from rllm_serving.analysis.intervals import codes, paired_difference, paired_log_ratio
from rllm_serving.claims.cells import Cell, NotTestedError
from rllm_serving.claims.contrasts import of_questions, of_starts

RLLM, LLM = ("vllm", "big-r", "bf16", "baseline"), ("vllm", "big", "bf16", "baseline")
HARD, EASY = ("hard", "batch-4", 64), ("easy", "batch-4", 64)


def _questions(server: tuple[str, ...], dataset: str, correct: list[float], tokens: list[float]) -> pd.DataFrame:
    engine, model, quantization, setup = server
    names = {"engine": engine, "model": model, "quantization": quantization, "setup": setup}
    ids = [f"q{place}" for place in range(len(correct))]
    counts = {"requests": 2, "completed": 2, "correct": correct, "output_tokens": tokens}
    return pd.DataFrame({**names, "dataset": dataset, "load": "batch-4", "budget": 64, "question_id": ids, **counts})


def _starts(values: dict[tuple[tuple[str, ...], str], list[float]]) -> pd.DataFrame:
    rows = []
    for (server, dataset), per_start in values.items():
        names = dict(zip(("engine", "model", "quantization", "setup"), server, strict=True))
        for start, value in enumerate(per_start, 1):
            condition = {"dataset": dataset, "load": "batch-4", "budget": 64}
            rows.append({**names, **condition, "start": start, "restart": 0, "e2e": value})
    return pd.DataFrame(rows)


def test_a_difference_of_answers_is_the_paired_one() -> None:
    rng = np.random.default_rng(1)
    correct = [rng.integers(0, 3, 40).astype(float) for _ in range(2)]
    table = pd.concat(
        [_questions(RLLM, "hard", list(correct[0]), [1.0] * 40), _questions(LLM, "hard", list(correct[1]), [1.0] * 40)]
    )
    found = of_questions([Cell(RLLM, (HARD,), 1), Cell(LLM, (HARD,), -1)], "accuracy", table)
    # The same questions, twice each, as rows of single requests.
    rows = [np.concatenate([np.minimum(side, 1), np.maximum(side - 1, 0)]) for side in correct]
    expected = paired_difference(rows[0], rows[1], codes(list(range(40)) * 2))
    assert found.effect.value == pytest.approx(expected.value)
    assert found.effect.error == pytest.approx(expected.error, rel=1e-6)
    assert found.units == 40


def test_a_ratio_of_lengths_is_the_paired_one() -> None:
    rng = np.random.default_rng(2)
    tokens = [rng.lognormal(5, 0.5, 40) for _ in range(2)]
    table = pd.concat(
        [_questions(server, "hard", [1.0] * 40, list(side)) for server, side in zip((RLLM, LLM), tokens, strict=True)]
    )
    found = of_questions([Cell(RLLM, (HARD,), 1), Cell(LLM, (HARD,), -1)], "output_tokens_mean", table)
    expected = paired_log_ratio(tokens[0], tokens[1], codes(list(range(40))))
    assert found.is_ratio
    assert found.effect.value == pytest.approx(expected.value)
    assert found.effect.error == pytest.approx(expected.error, rel=1e-6)


def test_datasets_are_strata() -> None:
    """What differs between datasets is no error: they were not drawn."""
    table = pd.concat(
        [_questions(RLLM, "hard", [0.0] * 20, [1.0] * 20), _questions(RLLM, "easy", [2.0] * 20, [1.0] * 20)]
    )
    found = of_questions([Cell(RLLM, (HARD, EASY), 1)], "accuracy", table)
    assert found.effect.value == pytest.approx(0.5)
    assert found.effect.error < 0.02


@pytest.mark.parametrize(("metric", "effect"), [("accuracy", 0.0), ("output_tokens_mean", 0.0)])
def test_starts_that_are_left_out_of_one_server_do_not_change_what_datasets_weigh(metric: str, effect: float) -> None:
    """Both servers say the same; one has a third of its answers to the easy set left."""
    hard, easy = ([0.0, 1.0] * 10, [200.0, 300.0] * 10), ([2.0, 1.0] * 10, [20.0, 30.0] * 10)
    whole = [_questions(LLM, "hard", *hard), _questions(LLM, "easy", *easy)]
    left = [_questions(RLLM, "hard", *hard), _questions(RLLM, "easy", *easy)]
    counts = ["requests", "completed", "correct", "output_tokens"]
    left[1] = left[1].assign(**{name: left[1][name] / 3 for name in counts})
    cells = [Cell(RLLM, (HARD, EASY), 1), Cell(LLM, (HARD, EASY), -1)]
    found = of_questions(cells, metric, pd.concat([*whole, *left]))
    assert found.effect.value == pytest.approx(effect, abs=1e-12)
    balanced = of_questions(cells, metric, pd.concat([*whole, *(part.assign(model="big-r") for part in whole)]))
    assert found.effect.error == pytest.approx(balanced.effect.error, rel=0.3, abs=1e-9)


def test_answers_that_are_not_graded_are_not_tested() -> None:
    table = _questions(RLLM, "hard", [np.nan] * 20, [1.0] * 20)
    with pytest.raises(NotTestedError, match="has no accuracy"):
        of_questions([Cell(RLLM, (HARD,), 1)], "accuracy", table)


def test_what_conditions_of_a_start_share_cancels_within_it() -> None:
    """A slow start is slow on both datasets: their ratio is known much better than either."""
    mood = [1.0, 2.0, 0.5, 1.5]
    table = _starts(
        {
            (RLLM, "hard"): [4.0 * m for m in mood],
            (RLLM, "easy"): [2.0 * m * (1 + 0.01 * k) for k, m in enumerate(mood)],
        }
    )
    found = of_starts([Cell(RLLM, (HARD,), 1), Cell(RLLM, (EASY,), -1)], "e2e", False, table)
    assert found.effect.value == pytest.approx(np.log(2), abs=0.02)
    assert found.effect.error < 0.02
    assert found.units == 4


def test_servers_of_two_models_have_independent_starts() -> None:
    rng = np.random.default_rng(3)
    logs = {server: rng.normal(0, 0.1, 5) for server in (RLLM, LLM)}
    table = _starts({(server, "hard"): list(np.exp(values)) for server, values in logs.items()})
    found = of_starts([Cell(RLLM, (HARD,), 1), Cell(LLM, (HARD,), -1)], "e2e", False, table)
    errors = [np.var(values, ddof=1) / 5 for values in logs.values()]
    assert found.effect.value == pytest.approx(logs[RLLM].mean() - logs[LLM].mean())
    assert found.effect.error == pytest.approx(np.sqrt(sum(errors)))


def test_a_start_that_lacks_a_condition_takes_no_part() -> None:
    table = _starts({(RLLM, "hard"): [4.0, 4.1, 4.2], (RLLM, "easy"): [2.0, 2.1]})
    found = of_starts([Cell(RLLM, (HARD,), 1), Cell(RLLM, (EASY,), -1)], "e2e", False, table)
    assert found.units == 2


def test_where_hardly_a_start_is_whole_conditions_are_taken_by_themselves() -> None:
    """Each condition has two starts, no start has both: the ratio is known, with the larger error."""
    hard, easy = [4.0, 4.4, np.nan], [np.nan, 2.2, 2.0]
    others: dict[tuple[tuple[str, ...], str], list[float]] = {
        (LLM, "hard"): [4.0, 4.3, 4.5],
        (LLM, "easy"): [2.0, 2.1, 2.3],
    }
    table = _starts({(RLLM, "hard"): hard, (RLLM, "easy"): easy, **others})
    found = of_starts([Cell(RLLM, (HARD,), 1), Cell(RLLM, (EASY,), -1)], "e2e", False, table)
    assert found.effect.value == pytest.approx(np.log(4 * 4.4) / 2 - np.log(2.2 * 2.0) / 2)
    alone = [of_starts([Cell(RLLM, (condition,), 1)], "e2e", False, table).effect.error for condition in (HARD, EASY)]
    assert found.effect.error == pytest.approx(sum(alone))
    assert found.units == 2


def test_no_start_at_all_is_not_tested() -> None:
    table = _starts({(RLLM, "hard"): [np.nan, np.nan]})
    with pytest.raises(NotTestedError, match="no start of"):
        of_starts([Cell(RLLM, (HARD,), 1)], "e2e", False, table)
