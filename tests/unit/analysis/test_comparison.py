"""Servers side by side: known ratios, what starts and questions say of them, and what cannot be compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from helpers import run_fixtures
from helpers.analysed import compare, rules
from rllm_serving.analysis.comparison import COLUMNS
from rllm_serving.analysis.interaction import interactions
from rllm_serving.analysis.server_data import ServerData

SMALL: dict[str, Any] = {"loads": (4,), "budgets": (512,), "starts": 3, "questions": 12}
TIMES = ["scheduled", "sent", "first_token", "first_visible_token", "last_token", "closed"]


def side(**options: Any) -> ServerData:
    requests, grades, samples, record = run_fixtures.run(**(SMALL | options))
    return ServerData(requests, grades, samples, [record])


def stretched(one: ServerData, factor: float, **names: str) -> ServerData:
    """The same server, but one that takes `factor` times as long for everything."""
    frame = one.requests.to_pandas().assign(**names)
    frame[TIMES] = frame[TIMES].astype(float) * factor
    frame["chunk_times"] = [np.asarray(x) * factor for x in frame["chunk_times"]]
    table = pa.Table.from_pandas(frame, preserve_index=False)
    assert one.samples is not None
    samples = one.samples.assign(time=one.samples["time"] * factor, kv_cache_usage=one.samples["kv_cache_usage"] / 2)
    return ServerData(table, one.grades, samples.assign(**names), one.records)


def rows(frame: pd.DataFrame, dataset: str) -> Any:
    """A dataset's rows by metric; `Any`, since pandas does not know what a cell holds."""
    return frame[frame["dataset"] == dataset].set_index("metric")


def test_a_server_twice_as_slow_is_changed_and_its_answers_are_not() -> None:
    base = side()
    frame = compare(stretched(base, 2.0, setup="slow"), base)
    hard = rows(frame, "arith-hard")
    for name, ratio in (("ttft", 2), ("tpot", 2), ("e2e_latency", 2), ("output_throughput", 0.5)):
        assert hard.loc[name, "ratio"] == pytest.approx(ratio, rel=1e-6)
        assert hard.loc[name, "ratio_low"] < ratio < hard.loc[name, "ratio_high"]
        assert hard.loc[name, ["verdict", "starts", "starts_baseline"]].tolist() == ["changed", 3, 3]
    assert hard.loc["kv_cache_usage", "ratio"] == pytest.approx(0.5)
    assert hard.loc["output_tokens", ["ratio", "ratio_low", "ratio_high"]].tolist() == [1, 1, 1]
    assert hard.loc["output_tokens", "verdict"] is None  # it cannot differ: nothing was tested
    # 36 answers that are all the same do not prove that none ever differs.
    assert hard.loc["accuracy", "difference_low"] < 0 == hard.loc["accuracy", "difference"]
    assert hard.loc[["same_answer", "same_text", "same_length"], "value"].tolist() == [1, 1, 1]
    assert (hard.loc[["same_answer", "same_text", "same_length"], "value_low"] < 1).all()
    assert hard.loc["kv_cache_usage_max", "ratio"] == pytest.approx(0.5)
    assert np.isnan(hard.loc["kv_cache_usage_max", "ratio_low"])
    assert set(COLUMNS) <= set(frame.columns) and set(frame["against"]) == {"vllm/bf16/baseline"}


def test_intervals_of_times_come_from_starts_however_many_requests_agree() -> None:
    base = side(starts=2, questions=12)
    frame = base.requests.to_pandas()
    # The second start of the other is slower by a third for its whole life: one draw of a mood, not 12 of a change.
    slow = frame["start"] == 2
    frame.loc[slow, TIMES] = frame.loc[slow, TIMES].astype(float) * 1.33
    other = ServerData(
        pa.Table.from_pandas(frame.assign(setup="again"), preserve_index=False), base.grades, base.samples
    )
    found = rows(compare(other, base), "arith-hard").loc["e2e_latency"]
    assert found["verdict"] == "undecided" and found["ratio_low"] < 1 < found["ratio_high"]
    assert found["smallest_effect"] > 0.3


def test_one_start_has_no_interval_and_no_verdict() -> None:
    found = rows(compare(side(engine="sglang", starts=1), side(starts=1)), "arith-hard")
    assert found.loc["tpot", "ratio"] > 1.1 and found.loc["e2e_latency", ["ratio_low", "p"]].isna().all()
    assert found.loc["e2e_latency", "verdict"] is None
    assert not np.isnan(found.loc["accuracy", "difference_low"])  # questions tell what a model says


def test_every_interval_holds_its_value_and_other_servers_differ() -> None:
    frame = compare(side(engine="sglang", starts=8), side(starts=8))
    for part in ("value", "baseline", "ratio", "difference"):
        known = frame[frame[[part, f"{part}_low"]].notna().all(axis=1)]
        assert len(known) > 5
        assert (known[f"{part}_low"] <= known[part] + 1e-5 * known[part].abs()).all()
        assert (known[f"{part}_high"] >= known[part] - 1e-5 * known[part].abs()).all()
    easy = rows(frame, "arith-easy")
    assert easy.loc["output_throughput", "ratio_high"] < 1 < easy.loc["tpot", "ratio_low"]


def test_failures_enter_neither_latency_nor_agreement() -> None:
    base = side()
    frame = base.requests.to_pandas()
    failed = frame.index[(frame["dataset"] == "arith-easy") & (frame["index"] == 0)]
    frame.loc[failed, ["status", "last_token", "output_tokens", "said"]] = ["http", np.nan, np.nan, 7]
    table = pa.Table.from_pandas(frame.assign(setup="broken"), preserve_index=False)
    easy = rows(compare(ServerData(table, base.grades, base.samples), base), "arith-easy")
    assert easy.loc["same_text", "value"] == 1
    assert easy.loc[["e2e_latency", "same_text"], "requests"].tolist() == [33, 33]
    assert easy.loc["e2e_latency", "ratio"] == pytest.approx(1)  # on both sides the same requests


def test_an_invalid_point_takes_no_part() -> None:
    base = side()
    entries = [
        {**entry, "invalid": "disturbed" if entry["repeat"] == 2 and entry["dataset"] == "arith-hard" else None}
        for entry in base.records[0]["points"]
    ]
    other = stretched(base, 2.0, setup="slow")
    marked = ServerData(other.requests, other.grades, other.samples, [{**base.records[0], "points": entries}])
    frame = compare(marked, base)
    assert rows(frame, "arith-hard").loc["accuracy", "requests"] == 24
    assert rows(frame, "arith-easy").loc["accuracy", "requests"] == 36
    assert frame["invalid"].isna().all()
    whole = [{**entry, "invalid": "disturbed"} for entry in entries]
    frame = compare(ServerData(other.requests, other.grades, other.samples, [{"points": whole}]), base)
    assert set(frame["invalid"]) == {"disturbed"} and frame["verdict"].isna().all()


def test_different_questions_are_no_comparison() -> None:
    with pytest.raises(ValueError, match="different questions"):
        compare(side(), side(questions=8))


def test_answers_that_are_not_graded_have_no_accuracy_and_all_the_rest() -> None:
    base = side()
    assert base.grades is not None
    code = base.grades["dataset"] == "arith-hard"
    ungraded = base.grades.assign(correct=base.grades["correct"].astype(object).mask(code, None))
    mine, other = (ServerData(base.requests, ungraded, base.samples) for _ in range(2))
    frame = compare(mine, other)
    assert rows(frame, "arith-hard").loc["accuracy", COLUMNS].astype(float).isna().all()
    assert rows(frame, "arith-easy").loc["accuracy", COLUMNS[:3]].notna().all()
    assert rows(frame, "arith-hard").loc["output_throughput", "ratio"] == pytest.approx(1)


def test_an_interaction_is_the_ratio_of_both_models_changes() -> None:
    llm, rllm = (side(model=f"micro_{role}") for role in ("llm", "rllm"))
    slow = [stretched(llm, 1.1, setup="s"), stretched(rllm, 3.3, setup="s")]
    judged_by = rules(llm, rllm, *slow)
    compared = pd.concat([compare(slow[0], llm, rllm, slow[1]), compare(slow[1], rllm, llm, slow[0])])
    found = interactions(compared, run_fixtures.PAIRS, judged_by)
    latency = found[found["metric"] == "e2e_latency"]
    assert latency["interaction"].tolist() == pytest.approx([3.0] * 4)
    assert (latency["interaction_low"] > 1).all() and (latency["interaction_high"] > 3).all()
    accuracy = found[found["metric"] == "accuracy"]
    assert accuracy["interaction"].tolist() == [0] * 4 and (accuracy["interaction_high"] > 0).all()
    assert interactions(compared, {"other": {"rllm": "x"}}, judged_by).empty
