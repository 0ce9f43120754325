"""Claims in short: the verdict of several hypotheses, and the files that tell it."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))

import claims as simulation
from rllm_serving.claims.decisions import FAILS, HOLDS, NOT_TESTED, UNDECIDED
from rllm_serving.claims.definitions import read_claims
from rllm_serving.claims.evaluation import evaluate
from rllm_serving.claims.summary import as_json, as_markdown, effect_text, margin_text, sentence, verdict_of


def _rows(*verdicts: str) -> pd.DataFrame:
    named = {"hypothesis": [f"h{place}" for place in range(len(verdicts))], "verdict": verdicts}
    return pd.DataFrame({**named, "candidate": "", "needed": np.nan, "units": "starts", "reason": None})


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ((HOLDS, HOLDS), HOLDS),
        ((HOLDS, FAILS, UNDECIDED), FAILS),
        ((HOLDS, UNDECIDED), UNDECIDED),
        ((HOLDS, NOT_TESTED), UNDECIDED),
        ((NOT_TESTED, NOT_TESTED), NOT_TESTED),
    ],
)
def test_a_claim_is_as_strong_as_its_parts(verdicts: tuple[str, ...], expected: str) -> None:
    assert verdict_of(_rows(*verdicts)) == expected


def test_the_sentence_says_what_is_missing() -> None:
    rows = _rows(HOLDS, UNDECIDED, NOT_TESTED)
    rows["needed"] = [np.nan, 12, np.nan]
    rows.loc[2, "reason"] = "no such server"
    assert sentence(rows) == (
        "1 of 3 primary hypotheses holds; undecided: h1 (would need about 12 starts); not tested: h2 (no such server)"
    )


@pytest.mark.parametrize(
    ("effect", "scale", "expected"),
    [
        ((1.321, 1.2, 1.45), "ratio", "x1.32 [1.20, 1.45]"),
        ((0.042, 0.01, 0.074), "difference", "+4.2 [1.0, 7.4] points"),
        ((-0.042, np.nan, np.nan), "difference", "-4.2 points"),
        ((np.nan, np.nan, np.nan), "ratio", ""),
    ],
)
def test_effects_are_shown_with_their_intervals(effect: tuple[float, ...], scale: str, expected: str) -> None:
    row: dict[str, Any] = dict(zip(("effect", "effect_low", "effect_high"), effect, strict=True))
    assert effect_text({**row, "scale": scale}) == expected


def test_margins_are_shown_on_the_scale_of_their_effects() -> None:
    shown = [
        margin_text({"margin": margin, "scale": scale}) for margin, scale in ((0.05, "ratio"), (0.03, "difference"))
    ]
    assert shown == ["5 %", "3 points"] and margin_text({"margin": None, "scale": "ratio"}) == ""


def test_files_hold_every_claim_with_its_evidence() -> None:
    claims = read_claims(simulation.CLAIMS)
    measured = simulation.study(simulation.AS_CLAIMED, simulation.MICRO, np.random.default_rng(8))
    del measured["real-world"]
    rows = evaluate(claims, measured, simulation.facts())
    has = {name: {"figures": ["timeline", "optimisations"], "tables": ["main"]} for name in measured}
    found = json.loads(json.dumps(as_json(rows, claims, has), allow_nan=False))
    by_id = {claim["id"]: claim for claim in found["claims"]}
    assert list(by_id) == list(claims)
    assert by_id["C1"]["figures"] == ["results/figures/pilot-budget-timeline.png"]
    assert by_id["C1"]["command"].endswith("pilot-budget --forcerun measure")
    assert {row["verdict"] for row in by_id["C11"]["verdicts"]} == {NOT_TESTED}
    assert by_id["C11"]["command"] is None
    text = as_markdown(rows, claims)
    assert all(f"## {name} {claim['title']}" in text for name, claim in claims.items())


def test_a_study_without_a_pair_says_so() -> None:
    claims = read_claims(simulation.CLAIMS)
    measured = simulation.study(simulation.AS_CLAIMED, simulation.MICRO, np.random.default_rng(9))
    rows = evaluate(claims, measured, replace(simulation.facts(), pairs={}))
    assert rows.empty
    assert "no pair" in as_markdown(rows, claims)
    assert as_json(rows, claims, {})["primaries"] == 0
