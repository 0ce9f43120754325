"""Two runs side by side: known ratios, what pairing is worth, and what cannot be compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from helpers import run_fixtures
from rllm_serving.analysis.comparison import COLUMNS, compare
from rllm_serving.analysis.intervals import codes, paired
from rllm_serving.analysis.run_data import RunData

SMALL: dict[str, Any] = {"loads": (4,), "budgets": (512,), "repeats": 2, "questions": 12}


def side(**options: Any) -> RunData:
    return RunData(*run_fixtures.run(**(SMALL | options))[:3])


def stretched(one: RunData, factor: float) -> RunData:
    """The same run on a server that takes `factor` times as long for everything."""
    frame = one.requests.to_pandas()
    times = ["scheduled", "sent", "first_token", "first_visible_token", "last_token"]
    frame[times] *= factor
    frame["chunk_times"] = [np.asarray(x) * factor for x in frame["chunk_times"]]
    table = pa.Table.from_pandas(frame, preserve_index=False)
    assert one.server is not None
    server = one.server.assign(time=one.server["time"] * factor, kv_cache_usage=one.server["kv_cache_usage"] / 2)
    return RunData(table, one.grades, server)


def rows(frame: pd.DataFrame, dataset: str) -> Any:
    """A dataset's rows by metric; `Any`, since pandas does not know what a cell holds."""
    return frame[frame["dataset"] == dataset].set_index("metric")


def test_a_server_twice_as_slow_is_twice_as_slow_without_doubt() -> None:
    base = side()
    frame = compare(stretched(base, 2.0), base)
    hard = rows(frame, "arith-hard")
    for name in ("ttft", "ttfvt", "tpot", "e2e_latency"):
        assert hard.loc[name, ["ratio", "ratio_low", "ratio_high"]].tolist() == pytest.approx([2, 2, 2], rel=1e-5)
        assert hard.loc[name, "difference"] == pytest.approx(hard.loc[name, "baseline"])
    assert hard.loc["output_throughput", ["ratio", "ratio_low", "ratio_high"]].tolist() == pytest.approx(
        [0.5] * 3, rel=1e-5
    )
    assert hard.loc["kv_cache_usage", ["ratio", "ratio_low", "ratio_high"]].tolist() == pytest.approx(
        [0.5] * 3, rel=1e-5
    )
    assert hard.loc["output_tokens", ["ratio", "ratio_low"]].tolist() == [1, 1]
    assert hard.loc["accuracy", ["difference", "difference_low", "difference_high"]].tolist() == [0, 0, 0]
    assert hard.loc[["same_answer", "same_text", "same_length"], "value"].tolist() == [1, 1, 1]
    assert hard.loc["kv_cache_usage_max", "ratio"] == pytest.approx(0.5) and np.isnan(
        hard.loc["kv_cache_usage_max", "ratio_low"]
    )
    assert set(COLUMNS) <= set(frame.columns) and set(frame["against"]) == {"vllm/bf16/baseline"}


def test_every_interval_holds_its_value_and_other_runs_differ() -> None:
    frame = compare(side(engine="sglang"), side())
    for part in ("value", "baseline", "ratio", "difference"):
        known = frame[frame[[part, f"{part}_low"]].notna().all(axis=1)]
        assert len(known) > 10
        assert (known[f"{part}_low"] <= known[part] + 1e-5 * known[part].abs()).all()
        assert (known[f"{part}_high"] >= known[part] - 1e-5 * known[part].abs()).all()
    easy = rows(frame, "arith-easy")
    assert easy.loc["output_throughput", "ratio_high"] < 1 < easy.loc["tpot", "ratio_low"]


def test_failures_enter_neither_latency_nor_agreement() -> None:
    base = side()
    frame = base.requests.to_pandas()
    failed = frame.index[(frame["dataset"] == "arith-easy") & (frame["index"] == 0)]
    frame.loc[failed, ["status", "last_token", "output_tokens", "said"]] = ["http", np.nan, np.nan, 7]
    broken = RunData(pa.Table.from_pandas(frame, preserve_index=False), base.grades, base.server)
    easy = rows(compare(broken, base), "arith-easy")
    assert easy.loc["same_text", "value"] == 1
    ok = frame[(frame["dataset"] == "arith-easy") & (frame["status"] == "ok")]
    assert easy.loc["e2e_latency", "value"] == pytest.approx((ok["last_token"] - ok["sent"]).mean())


def test_different_questions_are_no_comparison() -> None:
    with pytest.raises(ValueError, match="different questions"):
        compare(side(), side(questions=8))


def test_pairing_removes_what_the_questions_have_in_common() -> None:
    rng = np.random.default_rng(3)
    hard = rng.lognormal(sigma=1.5, size=40)
    mine, other, cluster = hard * rng.normal(1.1, 0.02, 40), hard, codes(np.arange(40))
    found = paired((mine, np.ones(40), cluster), (other, np.ones(40), cluster))
    assert 1.08 < found.ratio.low < found.ratio.value < found.ratio.high < 1.12
    # Alone, each mean is uncertain by far more than the difference between them.
    assert found.value.low < found.baseline.value < found.value.high


def test_a_ratio_to_nothing_is_missing_and_a_difference_is_not() -> None:
    cluster = codes(np.arange(6))
    found = paired((np.ones(6), np.ones(6), cluster), (np.zeros(6), np.ones(6), cluster))
    assert np.isnan(found.ratio.value) and found.difference[:] == (1, 1, 1)
    nearly = paired((np.ones(6), np.ones(6), cluster), (np.array([1.0, 0, 0, 0, 0, 0]), np.ones(6), cluster))
    assert nearly.ratio.value == pytest.approx(6) and np.isnan(nearly.ratio.low)
    missing = paired((np.full(6, np.nan), np.ones(6), cluster), (np.ones(6), np.ones(6), cluster))
    assert np.isnan([*missing.value, *missing.ratio, *missing.difference]).all() and missing.baseline.value == 1


def test_answers_that_are_not_graded_have_no_accuracy_and_all_the_rest() -> None:
    base = side()
    assert base.grades is not None
    code = base.grades["dataset"] == "arith-hard"
    ungraded = base.grades.assign(correct=base.grades["correct"].astype(object).mask(code, None))
    frame = compare(*(RunData(base.requests, ungraded, base.server) for _ in range(2)))
    accuracy = rows(frame, "arith-hard").loc["accuracy", COLUMNS].astype(float)
    assert accuracy.isna().all()
    assert rows(frame, "arith-easy").loc["accuracy", COLUMNS[:3]].notna().all()
    assert rows(frame, "arith-hard").loc["output_throughput", "ratio"] == pytest.approx(1)
