"""Two made-up studies whose true differences are known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.analysed import MARGINS
from helpers.two_studies import CONFIG, MODELS, QUESTIONS_ASKED, keys, record, study
from rllm_serving.analysis.intervals import paired_difference
from rllm_serving.analysis.results_folder import StudyResults
from rllm_serving.analysis.studies import (
    ALIKE,
    PAIRED,
    STARTS,
    UNPAIRED,
    changed_claims,
    changed_keys,
    changed_verdicts,
    compare,
)
from scipy import stats


def compared(then: StudyResults, now: StudyResults, metric: str) -> Any:
    table, _ = compare(then, now, MARGINS)
    return table[table["metric"] == metric]


def test_what_is_slower_is_changed_and_what_is_not_is_equivalent() -> None:
    then, now = study({}), study({"e2e_latency": 1.5, "output_throughput": 1 / 1.5}, seed=1)
    table, unmatched = compare(then, now, MARGINS)
    assert unmatched.empty
    found: Any = table.set_index(["metric", "model"])
    for model in MODELS:
        slower, less, same = (found.loc[name, model] for name in ("e2e_latency", "output_throughput", "tpot"))
        assert slower["verdict"] == less["verdict"] == "changed" and same["verdict"] == "equivalent"
        assert slower["ratio_low"] < 1.5 < slower["ratio_high"] and less["ratio_low"] < 1 / 1.5 < less["ratio_high"]
        assert slower["ratio"] == pytest.approx(slower["now"] / slower["then"])
        assert slower["how"] == STARTS and (slower["starts_then"], slower["starts_now"]) == (3, 3)
        assert np.isnan(slower["difference"]) and np.isnan(found.loc[("accuracy", model), "ratio"])


def test_each_study_has_its_own_noise() -> None:
    then, now = study({}, noise=0.01), study({}, noise=0.1, seed=1)
    (row,) = compared(then, now, "tpot").query("model == 'm_llm'").to_dict("records")
    errors, df = [], []
    for side in (then, now):
        logs = [np.log(side.starts.loc[side.starts["model"] == model, "tpot_mean"]) for model in MODELS]
        errors.append(np.sqrt(sum(part.var(ddof=1) for part in logs) / 2 / 3))
        df.append(4)
    assert row["error"] == pytest.approx(np.hypot(*errors))
    welch = row["error"] ** 4 / sum(error**4 / count for error, count in zip(errors, df, strict=True))
    assert row["df"] == pytest.approx(welch)
    reach = stats.t.ppf(0.975, welch) * row["error"]
    assert np.log(row["ratio_high"] / row["ratio"]) == pytest.approx(reach)


@pytest.mark.parametrize("truth", [1.0, 1.2])
def test_intervals_hold_the_truth_as_often_as_they_say(truth: float) -> None:
    datasets = [f"d{number}" for number in range(60)]
    rows = compared(study({}, datasets), study({"tpot": truth}, datasets, seed=7), "tpot")
    assert len(rows) == 2 * len(datasets)
    held = ((rows["ratio_low"] <= truth) & (truth <= rows["ratio_high"])).mean()
    assert held > 0.9
    assert (rows["verdict"] == ("equivalent" if truth == 1 else "changed")).mean() > 0.9


def test_one_start_gives_values_and_no_verdict() -> None:
    rows = compared(study({}, starts=1), study({"tpot": 3.0}, starts=1, seed=1), "tpot")
    assert rows["ratio"].between(2.5, 3.5).all()
    assert rows["ratio_low"].isna().all() and rows["verdict"].isna().all()


def test_answers_to_the_same_questions_are_paired() -> None:
    rows = compared(study({}, right=0.5), study({}, right=0.6, seed=1), "accuracy")
    before, after = (np.arange(QUESTIONS_ASKED) < share * QUESTIONS_ASKED for share in (0.5, 0.6))
    question = np.repeat(np.arange(QUESTIONS_ASKED), 3)  # each was asked in three starts
    effect = paired_difference(after[question].astype(float), before[question].astype(float), question)
    assert (rows["how"] == PAIRED).all()
    assert rows["difference"].tolist() == pytest.approx([0.1] * 2) and effect.value == pytest.approx(0.1)
    assert rows["error"].tolist() == pytest.approx([effect.error] * 2)


def test_the_order_of_questions_does_not_matter() -> None:
    then = study({})
    now = replace(then, questions=then.questions.iloc[::-1])
    rows = compared(then, now, "accuracy")
    assert (rows["how"] == PAIRED).all() and (rows["difference"] == 0).all()
    assert (rows["verdict"] == "equivalent").all()
    lengths = compared(then, now, "output_tokens")
    assert (lengths["how"] == ALIKE).all() and (lengths["ratio"] == 1).all()


def test_answers_not_known_by_question_are_compared_by_their_intervals() -> None:
    then, now = study({}, right=None), study({}, seed=1)
    rows = compared(then, now, "accuracy")
    assert (rows["how"] == UNPAIRED).all()
    assert rows["error"].tolist() == pytest.approx([np.hypot(0.1, 0.1) / stats.norm.ppf(0.975)] * 2)
    lengths = compared(then, now, "output_tokens")
    error = np.log(1.2) / stats.t.ppf(0.975, QUESTIONS_ASKED - 1)
    assert lengths["error"].tolist() == pytest.approx([np.hypot(error, error)] * 2)
    other = replace(now, questions=now.questions.assign(question_id="x" + now.questions["question_id"]))
    assert (compared(study({}), other, "accuracy")["how"] == UNPAIRED).all()


def test_what_only_one_study_has_is_listed() -> None:
    table, unmatched = compare(study({}, ["a", "b"]), study({}, ["b", "c"], seed=1), MARGINS)
    assert set(table["dataset"]) == {"b"}
    listed = unmatched.set_index(["dataset", "model"])["reason"].to_dict()
    assert listed == {(name, model): f"only {side}" for name, side in (("a", "then"), ("c", "now")) for model in MODELS}


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"sampling": {"temperature": 0, "top_p": 0.95}}, "sampling.temperature: 0.6 then, 0 now"),
        ({"seed": 2}, "seed: 1 then, 2 now"),
        ({"options": {"context_length": 1024}}, "options.context_length: 512 then, 1024 now"),
        ({"method": "fp8"}, "method: bf16 then, fp8 now"),
    ],
)
def test_what_was_asked_or_served_otherwise_is_not_compared(config: dict[str, Any], reason: str) -> None:
    then, now = study({}), study({}, seed=1)
    now = replace(now, records=[record("m_llm", config=config), record("m_rllm")])
    table, unmatched = compare(then, now, MARGINS)
    assert set(table["model"]) == {"m_rllm"}
    assert unmatched[["model", "reason"]].to_numpy().tolist() == [["m_llm", reason]]


def test_an_option_that_only_one_version_has_is_no_difference() -> None:
    now = CONFIG | {"options": CONFIG["options"] | {"new": 1}}
    assert changed_keys(CONFIG, now) == []
    assert changed_keys({name: value for name, value in CONFIG.items() if name != "thinking"}, now) == []


def test_another_number_of_questions_or_a_load_of_another_rate_is_not_compared() -> None:
    then, now = study({}), study({}, seed=1)
    more = now.summary.assign(num_questions=[QUESTIONS_ASKED, 64])
    _, unmatched = compare(then, replace(now, summary=more), MARGINS)
    assert unmatched["reason"].tolist() == ["questions: 40 then, 64 now"]
    streams = [replace(one, summary=one.summary.assign(load="open-0.7x-gamma1")) for one in (then, now)]
    table, unmatched = compare(streams[0], streams[1], MARGINS)
    assert table.empty and unmatched["reason"].str.contains("capacity").all() and len(unmatched) == 2
    _, unmatched = compare(then, replace(now, records=now.records[:1]), MARGINS)
    assert unmatched["reason"].tolist() == ["no run.json now"]


def test_a_condition_beyond_a_gate_has_no_verdict() -> None:
    then, now = study({}), study({"tpot": 2.0}, seed=1)
    late = replace(now, summary=now.summary.assign(invalid=pd.Series(["late", None], dtype=object)))
    rows = compared(then, late, "tpot").set_index("model")
    assert rows.loc["m_llm", "invalid"] == "now: late" and pd.isna(rows.loc["m_llm", "verdict"])
    assert rows.loc["m_rllm", "verdict"] == "changed" and pd.isna(rows.loc["m_rllm", "invalid"])


def test_ttfvt_is_compared_where_both_means_are_of_the_same() -> None:
    then, now = study({}), study({"ttfvt": 2.0}, seed=1)
    later = replace(now, summary=now.summary.assign(ttfvt_horizon=4.0))
    assert (compared(then, later, "ttfvt")["verdict"] == "changed").all()  # everybody answered
    some = [replace(one, summary=one.summary.assign(answered_rate=0.9)) for one in (then, later)]
    rows = compared(some[0], some[1], "ttfvt")
    assert rows["ratio"].isna().all() and rows["verdict"].isna().all() and rows["then"].notna().all()
    assert rows["how"].str.contains("2 s then, 4 s now").all()


def comparison(verdict: str | None, ratio: float, setup: str = "fast") -> pd.DataFrame:
    row: dict[str, Any] = keys("m_llm", "d", setup) | {"basis": "baseline", "against": "vllm/bf16/baseline"}
    row |= {f"{part}{end}": ratio for part in ("ratio", "difference") for end in ("", "_low", "_high")}
    return pd.DataFrame([row | {"metric": name, "verdict": verdict} for name in ("tpot", "ttft")])


def test_comparisons_whose_verdict_is_another_now_are_listed() -> None:
    setups = ("baseline", "fast")
    then, now = study({}, setups=setups), study({}, setups=setups, seed=1)
    after = comparison("changed", 2.0)
    after.loc[1, "verdict"] = "undecided"
    with_verdicts = [replace(then, comparisons=comparison("undecided", 1.5)), replace(now, comparisons=after)]
    (row,) = changed_verdicts(with_verdicts[0], with_verdicts[1]).to_dict("records")
    assert (row["metric"], row["verdict_then"], row["verdict_now"]) == ("tpot", "undecided", "changed")
    assert (row["ratio_then"], row["ratio_now"], row["setup"]) == (1.5, 2.0, "fast")
    # Neither side of the comparison may have been asked otherwise.
    baseline = [
        record(model, setup, config={"seed": 2} if setup == "baseline" else {}) for model in MODELS for setup in setups
    ]
    assert changed_verdicts(with_verdicts[0], replace(with_verdicts[1], records=baseline)).empty
    assert changed_verdicts(then, with_verdicts[1]).empty
    lost = changed_verdicts(with_verdicts[0], replace(now, comparisons=comparison(None, 1.5)))
    assert len(lost) == 2 and lost["verdict_now"].isna().all()


def test_hypotheses_whose_verdict_is_another_now_are_listed() -> None:
    names = {"claim": "C1", "pair": "p", "engine": "vllm", "dataset": None, "role": None, "candidate": None}
    effect = {"effect": 1.0, "effect_low": 0.9, "effect_high": 1.1}
    claims = [
        pd.DataFrame(
            [{**names, **effect, "hypothesis": name, "verdict": verdict} for name, verdict in verdicts.items()]
        )
        for verdicts in ({"a": "holds", "b": "holds"}, {"a": "holds", "b": "undecided", "c": "holds"})
    ]
    then, now = (replace(study({}), claims=table) for table in claims)
    found: Any = changed_claims(then, now).set_index("hypothesis")
    assert found.loc["b", ["verdict_then", "verdict_now"]].tolist() == ["holds", "undecided"]
    assert set(found.index) == {"b", "c"} and pd.isna(found.loc["c", "verdict_then"])
    assert changed_claims(then, study({})).empty


def test_studies_with_nothing_in_common_give_empty_tables() -> None:
    table, unmatched = compare(study({}, ["a"]), study({}, ["b"]), MARGINS)
    assert table.empty and "verdict" in table and len(unmatched) == 4
