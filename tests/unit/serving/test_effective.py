"""Options that were asked beside those that engines tell: what counts as a difference, and which marks a run."""

from __future__ import annotations

import json
import urllib.error
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import pytest
from helpers.fake_engine import FakeEngine
from rllm_serving.serving import effective
from rllm_serving.serving.engines import Engine, Options, ServerConfig, Told
from rllm_serving.serving.server import Server

OPTIONS = Options(context_length=512, kv_cache_tokens=4096, max_running_requests=16)
CONFIG = ServerConfig(Path("python"), Path("model"), None, "m", "cuda", OPTIONS, None, False, 7)


def found(told: dict[str, Any], **options: Any) -> list[tuple[str, bool]]:
    """Options that differ, and whether each is compared, when an engine tells `told` of what it was asked."""
    asked = effective.asked(replace(CONFIG, options=replace(OPTIONS, **options)))
    return [(entry.option, entry.compared) for entry in effective.differences(asked, {**asked, **told})]


def test_what_is_asked_has_a_meaning_on_that_server() -> None:
    asked = effective.asked(CONFIG)
    assert asked["gpu_memory_fraction"] == 0.9 and asked["dtype"] == "bfloat16" and asked["quantization"] == "bf16"
    assert asked["seed"] == 7 and asked["speculative"] == "none" and asked["speculative_tokens"] is None
    assert all(asked[name] is None for name in effective.CHOSEN)
    assert effective.asked(replace(CONFIG, device="cpu"))["gpu_memory_fraction"] is None
    speculating = replace(CONFIG, options=replace(OPTIONS, speculative="ngram"))
    assert effective.asked(speculating)["speculative_tokens"] == 3


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("prefix_cache", False),
        ("prefix_cache_hits", False),
        ("kv_cache_dtype", "fp8-e4m3"),
        ("max_running_requests", 15),
        ("context_length", 256),
        ("tensor_parallel", 2),
        ("scheduling", "longest-prefix"),
        ("speculative", "ngram"),
        ("dtype", "float16"),
        ("quantization", "awq"),
        ("kv_cache_tokens", 4095),
    ],
)
def test_whatever_makes_servers_unequal_is_compared(option: str, value: object) -> None:
    assert found({option: value}) == [(option, True)]


def test_what_is_not_told_or_not_asked_is_no_difference() -> None:
    assert found(dict.fromkeys(effective.asked(CONFIG))) == []
    assert found({"attention_backend": "FLASHINFER", "kv_block_tokens": 16}) == []
    assert found({"kv_cache_tokens": 99}, kv_cache_tokens=None) == []
    assert found({"speculative_tokens": 5}) == []


def test_a_pool_has_whole_blocks() -> None:
    assert found({"kv_cache_tokens": 4096, "kv_block_tokens": 32}, kv_cache_tokens=4100) == []
    assert found({"kv_cache_tokens": 4064, "kv_block_tokens": 32}, kv_cache_tokens=4100) == [("kv_cache_tokens", True)]


def test_the_models_own_number_format_is_what_it_computes_in() -> None:
    assert found({"kv_cache_dtype": "bfloat16"}) == [] and found({"kv_cache_dtype": "auto"}) == []
    assert found({"kv_cache_dtype": "float16", "dtype": "float16"}) == [("dtype", True)]
    assert found({"kv_cache_dtype": "bfloat16"}, kv_cache_dtype="fp8-e5m2") == [("kv_cache_dtype", True)]


def test_a_share_of_memory_counts_where_it_decides_the_pool() -> None:
    assert found({"gpu_memory_fraction": 0.85}) == [("gpu_memory_fraction", False)]
    assert found({"gpu_memory_fraction": 0.85}, kv_cache_tokens=None) == [("gpu_memory_fraction", True)]
    assert found({"gpu_memory_fraction": 0.9000000001}, kv_cache_tokens=None) == []
    assert found({"seed": 8}) == [("seed", False)]


def test_a_difference_in_words() -> None:
    difference = effective.Difference("prefix_cache", True, False, True)
    assert str(difference) == "prefix_cache asked true, effective false"


def test_lines_in_which_an_engine_says_what_it_changes() -> None:
    log = """\
(APIServer pid=5) INFO 11-27 03:24:43 [api_utils.py:286] non-default args: {'enable_chunked_prefill': 'disabled'}
(APIServer pid=5) WARNING 11-27 03:24:43 [vllm.py:1605] Async scheduling not supported with ngram and will be disabled.
(EngineCore pid=6) INFO 11-27 03:24:06 [kv_cache_utils.py:2619] Overriding num_gpu_blocks=9 with 8
(EngineCore pid=6) INFO 11-27 03:24:06 [kv_cache_utils.py:2619] Loading weights took 0.01 seconds
/env/vllm/dispatcher.py:138: FutureWarning: use `torch.distributed.ReduceOp` instead
[2026-11-27 03:26:25] The current platform does not support Intel AMX, will fallback to torch_native backend.
[2026-11-27 03:26:29 TP1] Radix cache is disabled because --enable-mis is set.
[2026-11-27 03:26:30 TP1] Radix cache is disabled because --enable-mis is set.
"""
    assert effective.changes_told(log) == [
        "Async scheduling not supported with ngram and will be disabled.",
        "Overriding num_gpu_blocks=9 with 8",
        "The current platform does not support Intel AMX, will fallback to torch_native backend.",
        "Radix cache is disabled because --enable-mis is set.",
    ]
    many = "\n".join(f"{word} is ignored {'x' * 400}" for word in range(100))
    assert len(effective.changes_told(many)) == effective.TOLD_LINES
    assert {len(line) for line in effective.changes_told(many)} == {effective.TOLD_LENGTH}


class Telling(FakeEngine):
    """Tells at a page of its own what it runs with."""

    title, info_path = "Teller", "/told"
    kernels: ClassVar[Mapping[str, str]] = {"attention": r"Using (\w+) backend"}

    def resolved(self, config: ServerConfig, told: Told) -> dict[str, Any]:
        return dict(told.info)


def server(engine: Engine, **pages: bytes) -> Server:
    def get(path: str, _: float) -> bytes:
        if path.strip("/") not in pages:
            raise urllib.error.URLError("not found")
        return pages[path.strip("/")]

    log = "Using FLASH backend\nRadix cache is disabled\n"
    return cast(Server, SimpleNamespace(engine=engine, config=CONFIG, get=get, log_text=lambda: log))


def test_a_server_is_described_for_the_record(caplog: pytest.LogCaptureFixture) -> None:
    told = {"max_running_requests": 8, "unknown": 1}
    described = effective.describe(server(Telling(), told=json.dumps(told).encode(), metrics=b""))
    assert described["asked"] == effective.asked(CONFIG) and described["effective"].keys() == described["asked"].keys()
    assert described["effective"]["max_running_requests"] == 8
    assert described["effective"]["attention_backend"] == "FLASH" and described["effective"]["prefix_cache"] is None
    difference = {"option": "max_running_requests", "asked": 16, "effective": 8, "compared": True}
    assert described["differences"] == [difference]
    assert described["changes_told"] == ["Radix cache is disabled"]
    assert json.loads(json.dumps(described)) == described and not caplog.records


@pytest.mark.parametrize("pages", [{}, {"told": b"<html>"}, {"told": b"[]"}, {"told": b"\xff"}], ids=str)
def test_a_server_that_does_not_tell_is_said_to_be_unchecked(
    pages: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    described = effective.describe(server(Telling(), **pages))
    assert described["differences"] == [] and described["effective"]["max_running_requests"] is None
    assert "Teller told nothing at /told: its options are not checked" in caplog.text


def test_hits_are_looked_for_where_the_engine_says_that_it_has_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    def probe(_: Server, block: int, context: int) -> bool:
        asked.append((block, context))
        return False

    monkeypatch.setattr(effective, "has_hits", probe)
    pages = {"told": b'{"prefix_cache": true, "kv_block_tokens": 16}', "metrics": b""}
    described = effective.describe(server(Telling(), **pages))
    difference = {"option": "prefix_cache_hits", "asked": True, "effective": False, "compared": True}
    assert described["differences"] == [difference] and asked == [(16, 512)]
    described = effective.describe(server(Telling(), told=b'{"prefix_cache": false}', metrics=b""))
    assert [entry["option"] for entry in described["differences"]] == ["prefix_cache"] and len(asked) == 1
