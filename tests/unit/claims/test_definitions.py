"""Claims as data: the shipped ones are whole, and mistakes in others are told in a line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from helpers.studies import load
from rllm_serving.claims.definitions import read_claims
from rllm_serving.claims.facts import StudyFacts
from rllm_serving.claims.planning import claimed_experiments, load_claims
from rllm_serving.datasets.loaders import FORMATS
from rllm_serving.report.catalogue import FIGURES, TABLES
from rllm_serving.study.config_errors import ConfigError
from rllm_serving.study.subjects import BY_KIND

SHIPPED = ROOT / "resources" / "claims.yaml"


def _claim(**changes: Any) -> dict[str, Any]:
    hypothesis = {"says": "s", "metric": "accuracy", "plus": [{"role": "rllm"}], "direction": "greater", "margin": 0}
    claim = {"title": "t", "claim": "c", "experiments": ["pilot-budget"], "hypotheses": {"h": hypothesis | changes}}
    return {"mine": claim}


def test_all_eleven_claims_are_there_and_name_figures_and_tables_that_exist() -> None:
    claims = read_claims(SHIPPED)
    assert list(claims) == [f"C{number}" for number in range(1, 12)]
    for claim in claims.values():
        assert set(claim["figures"]) <= set(FIGURES)
        assert set(claim["tables"]) <= set(TABLES)
        assert any(hypothesis["primary"] for hypothesis in claim["hypotheses"].values())


@pytest.mark.parametrize("config", ["config.yaml", "first-hour.yaml", "single-gpu.yaml", "paper.yaml"])
def test_every_config_has_experiments_for_most_claims(config: str) -> None:
    study = load(yaml.safe_load((ROOT / "config" / config).read_text()))
    claims = load_claims(SHIPPED, study)
    assert "pilot-budget" in claimed_experiments(claims, study)


def test_every_dataset_has_a_subject() -> None:
    assert set(FORMATS) <= set(BY_KIND)


def test_a_claim_of_the_config_replaces_a_shipped_one() -> None:
    claim = _claim()["mine"]
    study = load({**yaml.safe_load((ROOT / "config" / "config.yaml").read_text()), "claims": {"C1": claim}})
    assert load_claims(SHIPPED, study)["C1"]["claim"] == "c"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric": "energy"}, r"claims.mine.hypotheses.h.metric: 'energy' has no interval"),
        ({"direction": "up"}, r"direction: 'up' is not one of greater, less, within"),
        ({"plus": []}, r"plus: must not be empty"),
        ({"plus": [{"roll": "rllm"}]}, r"roll"),
        ({"candidates": {}}, r"candidates"),
        ({"experiments": ["nowhere"]}, r"claims.mine.experiments: unknown 'nowhere'"),
    ],
)
def test_a_mistake_is_told_in_one_line(changes: dict[str, Any], message: str) -> None:
    config = {**yaml.safe_load((ROOT / "config" / "config.yaml").read_text()), "claims": _claim(**changes)}
    with pytest.raises(ConfigError, match=message) as caught:
        load_claims(SHIPPED, load(config))
    assert "\n" not in str(caught.value)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "claims.yaml"
    path.write_text("C1: {title: t}\n")
    with pytest.raises(ConfigError, match=r"^claims.yaml: claims.C1"):
        read_claims(path)


def test_candidates_are_setups_that_set_just_that() -> None:
    facts = StudyFacts(
        pairs={},
        engines=[],
        subjects={},
        setups={
            "baseline": {},
            "kv": {"kv_cache_dtype": "fp8-e4m3"},
            "both": {"kv_cache_dtype": "fp8-e4m3", "prefix_cache": False},
            "drafts": {"speculative": "draft", "draft_model": "d", "speculative_tokens": 3},
        },
        methods={"bf16": "bf16", "w4": "gptq-int4"},
        loads={},
    )
    assert facts.candidates({"setup": {"kv_cache_dtype": ["fp8-e4m3", "fp8-e5m2"]}}) == [("bf16", "kv")]
    assert facts.candidates({"setup": {"speculative": ["draft"]}}) == [("bf16", "drafts")]
    assert facts.candidates({"quantization": ["gptq-int4"]}) == [("w4", "baseline")]
    assert StudyFacts.from_plain(facts.plain()) == facts
