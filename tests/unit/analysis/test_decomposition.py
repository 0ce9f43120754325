"""Why a run is slower: parts that add up, counters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from helpers import run_fixtures
from rllm_serving.analysis.counters import acceptance, counter_summary, kv_bytes_per_token, tokens_per_chunk_by_phase
from rllm_serving.analysis.decomposition import COUNTERS, PARTS, with_intervals
from rllm_serving.analysis.decomposition import decompose as without_intervals
from rllm_serving.analysis.request_metrics import latencies
from rllm_serving.analysis.server_data import ServerData

SMALL: dict[str, Any] = {"loads": (4,), "budgets": (512,), "starts": 3, "questions": 12}


def side(**options: Any) -> ServerData:
    return ServerData(*run_fixtures.run(**(SMALL | options))[:3])


def decompose(candidate: ServerData, baseline: ServerData) -> pd.DataFrame:
    return with_intervals(without_intervals(candidate, baseline))


def changed(one: ServerData, **columns: Any) -> ServerData:
    """The run with other values; a column may be a function of the frame."""
    frame = one.requests.to_pandas().assign(**columns)
    return ServerData(pa.Table.from_pandas(frame, preserve_index=False), one.grades, one.samples)


def made(tokens: list[int], tpot: float, ttft: float, status: str = "ok") -> ServerData:
    """A run of one request a question, all thinking but one token. The stream ends 0.5 s behind a single token."""
    keys: dict[str, Any] = {
        "experiment": "e",
        "engine": "vllm",
        "model": "m",
        "quantization": "bf16",
        "setup": "baseline",
    }
    keys |= {"dataset": "d", "load": "batch-2", "load_level": 2, "budget": 64, "repeat": 0, "start": 1, "restart": 0}
    rows = []
    for k, n in enumerate(tokens):
        row: dict[str, Any] = {"index": k, "batch": 0, "question_id": str(k), "domain": "a", "difficulty": "easy"}
        row |= {"status": status if k == 0 else "ok", "scheduled": None, "sent": 1.0, "first_token": 1 + ttft}
        row |= {"first_visible_token": None, "last_token": 1 + ttft + ((n - 1) * tpot if n > 1 else 0.5)}
        row |= {
            "prompt_tokens": 4,
            "output_tokens": n,
            "reasoning_tokens": n - 1,
            "answer_tokens": 1,
            "forced_output_tokens": None,
        }
        rows.append(keys | row | {"finish_reason": "stop", "chunk_times": [1 + ttft], "chunk_tokens": [n]})
    return ServerData(pa.Table.from_pylist(rows))


def left_over(frame: pd.DataFrame) -> float:
    return float((frame["delta_e2e_latency"] - frame[PARTS].sum(axis=1)).abs().max())


@pytest.mark.parametrize("fail", [0.0, 0.3])
def test_the_parts_add_up_to_the_whole(fail: float) -> None:
    mine, baseline = side(engine="sglang", fail=fail), side(fail=fail)
    frame = decompose(mine, baseline)
    assert len(frame) == len(run_fixtures.SETS) and left_over(frame) < 1e-9
    assert (frame["tokens"] - frame["thinking"] - frame["answer"]).abs().max() < 1e-9
    both = [latencies(one.requests) for one in (mine, baseline)]
    ok = both[0]["completed"] & both[1]["completed"]
    delta = (both[0]["e2e_latency"] - both[1]["e2e_latency"])[ok].groupby(both[0]["dataset"]).mean()
    assert frame.set_index("dataset")["delta_e2e_latency"].to_dict() == pytest.approx(delta.to_dict(), abs=1e-9)
    assert frame["requests"].sum() == ok.sum()
    for name in ["delta_e2e_latency", *PARTS, "tokens"]:
        assert (frame[f"{name}_low"] <= frame[name] + 1e-5).all()
        assert (frame[f"{name}_high"] >= frame[name] - 1e-5).all()


def test_slower_tokens_are_speed_and_a_later_first_token_is_queue() -> None:
    base = side()
    slow = changed(base, last_token=lambda f: 2 * f["last_token"] - f["first_token"])
    row: Any = decompose(slow, base).set_index("dataset").loc["arith-hard"]
    assert row[["queue_and_prefill", "thinking", "answer"]].tolist() == pytest.approx([0, 0, 0], abs=1e-9)
    assert row["speed"] == pytest.approx(row["delta_e2e_latency"]) and row["speed_low"] > 0
    assert row["thinking_ratio"] == 1 and row["thinking_difference"] == 0
    late = changed(base, **{name: lambda f, name=name: f[name] + 3 for name in ("first_token", "last_token")})
    row = decompose(late, base).set_index("dataset").loc["arith-hard"]
    assert row[["queue_and_prefill", "speed", "tokens"]].tolist() == pytest.approx([3, 0, 0], abs=1e-9)


def test_a_split_made_by_hand() -> None:
    (row,) = decompose(made([31, 11], 0.2, 1.0), made([11, 11], 0.1, 0.5)).to_dict("records")
    # Request 0: 6 + 1 s against 1 + 0.5 s: 20 tokens more at 0.15 s, 0.1 s a token more on 20 of them.
    assert row["tokens"] == row["thinking"] == pytest.approx((20 * 0.15 + 0) / 2) and row["answer"] == 0
    assert row["speed"] == pytest.approx((0.1 * 20 + 0.1 * 10) / 2)
    assert row["queue_and_prefill"] == pytest.approx(0.5) and row["delta_e2e_latency"] == pytest.approx((5.5 + 1.5) / 2)
    assert row["thinking_difference"] == pytest.approx(10) and row["thinking_ratio"] == pytest.approx(2)
    # Turned round, every part has the other sign.
    (turned,) = decompose(made([11, 11], 0.1, 0.5), made([31, 11], 0.2, 1.0)).to_dict("records")
    assert [turned[name] for name in PARTS] == pytest.approx([-row[name] for name in PARTS])


def test_a_single_token_has_no_speed() -> None:
    frame = decompose(made([1, 1], 0.1, 0.5), made([11, 1], 0.1, 0.5))
    assert left_over(frame) < 1e-9
    row = frame.iloc[0]
    # Ten tokens fewer at 0.1 s; behind the single token the stream stayed open for 0.5 s.
    assert row["tokens"] == pytest.approx(-1.0 / 2) and row["speed"] == pytest.approx(0.5 / 2)


def test_failures_and_uncounted_thinking() -> None:
    frame: Any = decompose(made([500, 11], 0.2, 1.0, status="http"), made([11, 11], 0.1, 0.5))
    assert frame.loc[0, "requests"] == 1 and frame.loc[0, "tokens"] == 0 and np.isnan(frame.loc[0, "speed_low"])
    base = side()
    unknown = changed(base, reasoning_tokens=lambda f: f["reasoning_tokens"].where(f["index"] > 0))
    frame = decompose(unknown, base)
    assert frame[["thinking", "answer"]].isna().all(axis=None) and frame["tokens"].notna().all()
    nothing = decompose(changed(base, status="http"), base)
    assert (nothing["requests"] == 0).all() and nothing[["delta_e2e_latency", *PARTS]].isna().all(axis=None)
    with pytest.raises(ValueError, match="different questions"):
        decompose(side(), side(questions=8))


def test_counters_are_what_the_points_gained() -> None:
    samples = pd.DataFrame({"repeat": [0, 0, 0, 1, 1], "time": [-1.0, 1, 2, -1, 1], "in_window": True})
    samples["prefix_queries"], samples["prefix_hits"] = [100, 150, 200, 200, 300], [10, 10, 60, 60, 110]
    samples["preemptions"], samples["spec_drafted"] = [7, 8, 9, 9, 9], None
    chunks = pd.DataFrame({"row": [0] * 5, "tokens": [1.0, 3, 2, 4, 1]})
    model = {"model": {"path": "/nowhere"}}
    run = {"config": {"options": {"speculative": "ngram"}}} | model
    found = counter_summary(samples, pd.DataFrame({"reasoning_tokens": [5.0]}), chunks, run)
    assert set(found) == set(COUNTERS)
    assert found["prefix_hit_rate"] == 0.5 and found["preemptions"] == 2 and np.isnan(found["accepted_rate"])
    # 1 | 3 thinking | 2 with </think> | 4, 1 answer.
    assert found["tokens_per_chunk_thinking"] == 3 and found["tokens_per_chunk_answer"] == 2.5
    assert found["accepted_per_step_thinking"] == 2 and found["accepted_per_step_answer"] == 1.5
    plain = counter_summary(
        samples, pd.DataFrame({"reasoning_tokens": [5.0]}), chunks, model | {"config": {"options": {}}}
    )
    assert plain["tokens_per_chunk_answer"] == 2.5 and np.isnan(plain["accepted_per_step_answer"])
    assert np.isnan(found["kv_bytes_per_token"])
    bare = counter_summary(samples.iloc[:1], pd.DataFrame({"reasoning_tokens": [5.0]}), chunks, {})
    assert np.isnan([bare["prefix_hit_rate"], bare["preemptions"], bare["accepted_per_step_thinking"]]).all()


def test_accepted_drafts_are_counted_alike_on_both_engines() -> None:
    samples = pd.DataFrame({"repeat": [0, 0], "time": [-1.0, 1], "in_window": True, "generated_tokens": [100, 300]})
    requests = pd.DataFrame({"status": ["ok", "ok", "http"]})
    run: dict[str, Any] = {"config": {"options": {"speculative": "ngram"}}, "device": "cpu"}
    vllm = samples.assign(spec_drafted=[10, 250], spec_accepted=[5, 65], spec_steps=[0, 138])
    assert acceptance(vllm, requests, run) == {"accepted_rate": 60 / 240, "accepted_share": 60 / 200}
    # On GPUs vLLM counts n-grams that were not found as drafted.
    padded = acceptance(vllm, requests, run | {"device": "cuda"})
    assert np.isnan(padded["accepted_rate"]) and padded["accepted_share"] == 60 / 200
    # 200 tokens: 2 of prefill, 138 of the model's own in as many steps.
    sglang = samples.assign(spec_drafted=None, spec_accepted=None, spec_steps=[0, 138])
    found = acceptance(sglang, requests, run | {"device": "cuda"})
    assert np.isnan(found["accepted_rate"]) and found["accepted_share"] == 60 / 200
    for silent in (samples, sglang.iloc[:1]):
        assert np.isnan(list(acceptance(silent, requests, run).values())).all()
    assert np.isnan(list(acceptance(vllm, requests, {}).values())).all()


def test_who_does_not_think_only_answers() -> None:
    chunks = pd.DataFrame({"row": [0, 0, 0, 1], "tokens": [1.0, 2, 4, 1]})
    found = tokens_per_chunk_by_phase(chunks, pd.Series([0.0, 0.0]))
    assert found["answer"] == 3 and np.isnan(found["thinking"])


def test_kv_bytes_of_a_token() -> None:
    config = {"num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": 4096}
    assert kv_bytes_per_token(config, "auto") == 147456 and kv_bytes_per_token(config, "fp8-e4m3") == 147456 / 2
    assert kv_bytes_per_token({"text_config": config | {"head_dim": 64}}, "auto") == 147456 / 2
    unknown: list[dict[str, Any]] = [
        {},
        config | {"kv_lora_rank": 512},
        config | {"layer_types": ["sliding_attention"]},
    ]
    unknown.append(config | {"quantization_config": {"kv_cache_scheme": {"num_bits": 8}}})
    assert all(np.isnan(kv_bytes_per_token(one, "auto")) for one in unknown)
