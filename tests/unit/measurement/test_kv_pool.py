"""The KV pool of a run: computed, told to the server, compared with what it made, recorded."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.fake_nvml import UUIDS, Nvml
from helpers.run_harness import POINTS, RUN, RunHarness
from rllm_serving.measurement import kv_pool
from rllm_serving.measurement.kv_pool import KvPoolError, comparable_kind, pool_of
from rllm_serving.serving.capability import KernelError
from rllm_serving.serving.engines import Options
from rllm_serving.serving.memory import GpuMemoryError, common_pool, limits

pytestmark = pytest.mark.usefixtures("machine")
SHAPE = {"num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64}
BIG = 80 * 2**30


def checkpoint(folder: Path, parameters: int, **config: Any) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return {"path": str(folder), "parameters": parameters, "bytes": 2 * parameters}


def test_a_draft_takes_its_part_of_weights_and_of_every_token(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "model", 10**9, **SHAPE)
    draft = checkpoint(tmp_path / "draft", 10**8, **SHAPE | {"num_hidden_layers": 1, "num_key_value_heads": 1})
    run = replace(RUN, options=Options(tensor_parallel=2))
    alone, drafted = (pool_of(run, model, one, tuple(UUIDS[:2])) for one in (None, draft))
    assert alone is not None and drafted is not None
    own = 2 * 4 * 1 * 64 * 2
    # SGLang counts a draft's layer as one of the model's, which is more than it has.
    assert alone.bytes_per_token == own and drafted.bytes_per_token == own + own // 4
    assert (alone.weight_bytes, drafted.weight_bytes) == (10**9, 1.1 * 10**9)
    assert alone == common_pool(BIG, 10**9, own, run.options) and alone.limit_bytes == limits(BIG, run.options)


def test_weights_that_the_engine_quantizes_leave_more_room(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "model", 10**10, **SHAPE)
    plain, quantized = (pool_of(replace(RUN, method=m), model, None, (UUIDS[0],)) for m in ("bf16", "bnb-nf4"))
    assert plain is not None and quantized is not None
    assert quantized.weight_bytes == pytest.approx(0.28125 * plain.weight_bytes) and quantized.tokens > plain.tokens


def test_without_gpus_and_for_other_caches_the_engine_decides(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = checkpoint(tmp_path / "model", 10**9, **SHAPE, kv_lora_rank=512)
    assert pool_of(RUN, model, None, ()) is None and not caplog.text
    assert pool_of(RUN, model, None, (UUIDS[0],)) is None and "serving.kv_cache_tokens sets one" in caplog.text
    assert kv_pool.describe(None, None) is None and kv_pool.describe(None, 5) == {"reported_tokens": 5}


def test_a_smaller_pool_than_was_asked_for_ends_the_run() -> None:
    pool = common_pool(BIG, 10**9, 1024, Options())
    described = kv_pool.describe(pool, pool.tokens)
    assert described is not None and described["tokens"] == described["reported_tokens"] == pool.tokens
    with pytest.raises(KvPoolError, match=r"found room for 900,000 tokens .*kv_cache_tokens to 899072 for all engines"):
        kv_pool.describe(pool, 900_000)


def test_points_with_another_pool_are_not_of_one_run() -> None:
    hardware = {"cpu": "c", "gpus": []}
    kinds = [comparable_kind({"hardware": hardware, "kv_pool": pool}) for pool in (None, {"tokens": 1}, {"tokens": 2})]
    assert len(set(kinds)) == 3 and comparable_kind({"hardware": hardware}) == kinds[0]


def test_a_run_tells_its_server_the_size_and_records_it(harness: RunHarness) -> None:
    model = checkpoint(harness.folder / "model", 10**9, **SHAPE)
    record = json.loads((harness.folder / "model.json").read_text())
    (harness.folder / "model.json").write_text(json.dumps({**record, **model}))
    harness.execute(replace(RUN, points=POINTS[:1]), device="cuda")
    [session] = json.loads(harness.paths.record.read_text())["sessions"]
    expected = common_pool(BIG, 2 * 10**9, 2048, RUN.options)
    assert session["kv_pool"]["tokens"] == expected.tokens and session["kv_pool"]["gpu_bytes"] == BIG
    assert session["kv_pool"]["reported_tokens"] is None


def test_a_run_whose_gpu_has_no_kernel_starts_no_server(harness: RunHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(2, capability=(8, 0)))
    with pytest.raises(
        KernelError, match=r"cannot serve torchao-fp8-weight on sm80: .*; take it out of the experiments'"
    ):
        harness.execute(replace(RUN, method="torchao-fp8-weight"), device="cuda")
    assert not harness.paths.server_log.exists()


def test_a_run_that_does_not_fit_starts_no_server(harness: RunHarness) -> None:
    (harness.folder / "model.json").write_text(json.dumps(checkpoint(harness.folder / "model", 10**12, **SHAPE)))
    with pytest.raises(GpuMemoryError, match=r"the weights take 1862\.6"):
        harness.execute(RUN, device="cuda")
    assert not harness.paths.server_log.exists()
