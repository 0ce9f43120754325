"""Verdicts against cases worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from rllm_serving.analysis.false_positives import false_positives
from rllm_serving.analysis.intervals import NO_ESTIMATE, Estimate
from rllm_serving.analysis.verdicts import COLUMNS, benjamini_hochberg, judged, with_verdicts
from scipy import stats


def compared(*effects: Estimate, margin: float = 0.1, **columns: object) -> pd.DataFrame:
    rows = [{"metric": "m", "invalid": None, **judged(effect, margin), **columns} for effect in effects]
    return with_verdicts(pd.DataFrame(rows))


@pytest.mark.parametrize(
    ("effect", "verdict"),
    [
        (Estimate(0.3, 0.05, 10), "changed"),
        (Estimate(-0.3, 0.05, 10), "changed"),
        (Estimate(0.02, 0.02, 10), "equivalent"),
        (Estimate(0.06, 0.02, 10), "equivalent"),  # not 0, but surely too little to matter
        (Estimate(0.09, 0.02, 10), "changed"),
        (Estimate(0.08, 0.05, 10), "undecided"),
        (Estimate(0.0, 0.2, 10), "undecided"),
        (Estimate(0.3, np.nan, np.nan), None),
        (NO_ESTIMATE, None),
    ],
)
def test_three_verdicts(effect: Estimate, verdict: str | None) -> None:
    assert compared(effect)["verdict"].tolist() == [verdict]


def test_equivalence_is_two_one_sided_tests_at_five_percent() -> None:
    edge = 0.1 - stats.t.ppf(0.95, 7) * 0.03
    assert compared(Estimate(edge - 1e-6, 0.03, 7))["verdict"].tolist() == ["equivalent"]
    assert compared(Estimate(edge + 1e-6, 0.03, 7))["verdict"].tolist() != ["equivalent"]


def test_the_smallest_effect_is_seen_four_times_of_five() -> None:
    rng = np.random.default_rng(4)
    smallest = judged(Estimate(0.0, 0.1, 1e6), 0.1)["smallest_effect"]
    seen = np.abs(rng.normal(smallest, 0.1, 20000)) > 1.96 * 0.1
    assert seen.mean() == pytest.approx(0.8, abs=0.01)


def test_many_comparisons_of_nothing_find_nothing() -> None:
    rng = np.random.default_rng(5)
    effects = [Estimate(float(value), 0.1, 1e6) for value in rng.normal(0, 0.1, 200)]
    found = compared(*effects, margin=1e-9)
    assert (found["p"] < 0.05).sum() > 4 and (found["verdict"] == "changed").sum() == 0
    # A metric alone is adjusted among its own.
    alone = pd.concat([pd.DataFrame([{"metric": "other", "invalid": None, **judged(Estimate(0.25, 0.1, 1e6), 1e-9)}])])
    assert with_verdicts(alone)["verdict"].tolist() == ["changed"]


def test_adjusted_p_values() -> None:
    found = benjamini_hochberg(np.array([0.01, np.nan, 0.04, 0.03]))
    assert found == pytest.approx([0.03, np.nan, 0.04, 0.04], nan_ok=True)


def test_an_invalid_comparison_has_no_verdict() -> None:
    found = compared(Estimate(0.3, 0.05, 10), invalid="late")
    assert found["verdict"].tolist() == [None] and np.isnan(found["p_adjusted"][0]) and "is_equivalent" not in found
    assert set(COLUMNS) - {"is_equivalent"} <= set(found.columns)


def test_false_positives_are_counted_with_a_binomial_interval() -> None:
    rows = [{"metric": "a", "p": p, "invalid": None, "verdict": None} for p in [0.01] + [0.5] * 19]
    rows += [{"metric": "b", "p": 0.01, "invalid": None, "verdict": "changed"}]
    rows += [{"metric": "b", "p": 0.01, "invalid": "late", "verdict": None}]
    rows += [{"metric": "c", "p": np.nan, "invalid": None, "verdict": None}]
    found: Any = false_positives(pd.DataFrame(rows)).set_index("metric")
    assert found.loc["a", ["comparisons", "outside", "rate", "changed"]].tolist() == [20, 1, 0.05, 0]
    assert found.loc["a", ["rate_low", "rate_high"]].tolist() == pytest.approx([0.00127, 0.2487], abs=1e-4)
    assert found.loc["all", ["comparisons", "outside", "changed"]].tolist() == [21, 2, 1]
    assert "c" not in found.index
