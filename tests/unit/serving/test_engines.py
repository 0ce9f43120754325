"""Engines: command lines, environments, names of options, refusals, and the backends that their logs report."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from conftest import ROOT
from rllm_serving import toolkit
from rllm_serving.measurement.rows import SERVER
from rllm_serving.serving.engines import ENGINES, Engine, Options, ServerConfig
from rllm_serving.serving.hardware import CPU_WITHOUT_AVX512

OPTIONS = Options(context_length=2048, kv_cache_tokens=8192, max_running_requests=16, tensor_parallel=2)
CONFIG = ServerConfig(Path("env/bin/python"), Path("models/m"), None, "m", "cuda", OPTIONS, "deepseek-r1", False, 5)


def flags(config: ServerConfig, engine: str = "vllm") -> dict[str, str | None]:
    """Flag -> value (None: it stands alone) of a command line after the module; no flag may come twice."""
    command = ENGINES[engine].command(config, 4711)
    values: dict[str, str | None] = {}
    for word, following in zip(command, [*command[1:], "--"], strict=True):
        if word.startswith("--"):
            assert word not in values
            values[word] = None if following.startswith("--") else following
    return values


def with_options(device: str = "cuda", **options: object) -> ServerConfig:
    return replace(CONFIG, device=device, options=replace(OPTIONS, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("engine", ENGINES.values(), ids=lambda engine: engine.name)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_engine_listens_on_loopback_alone_and_tells_all_columns(engine: Engine, device: str) -> None:
    command = engine.command(replace(CONFIG, device=device), 4711)
    assert command[0] == "env/bin/python" and all(isinstance(word, str) for word in command)
    assert command[command.index("--host") + 1] == "127.0.0.1" and command[command.index("--port") + 1] == "4711"
    environment = engine.environment(replace(CONFIG, device=device))
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert all(isinstance(text, str) for text in [*environment, *environment.values()])
    assert set(engine.metrics) < set(SERVER.names)
    assert set(engine.values["reasoning_parser"]) == {"deepseek-r1", "qwen3"}
    assert ENGINES[engine.name] is engine


@pytest.mark.parametrize("engine", ENGINES.values(), ids=lambda engine: engine.name)
def test_what_is_said_of_an_engine_is_of_the_version_in_its_locks(engine: Engine) -> None:
    locks = [ROOT / "workflow" / "envs" / f"{engine.name}-{device}.txt" for device in ("cpu", "cuda")]
    pins = re.findall(rf"^{engine.name}(?:-cpu)?==(\S+)", "".join(lock.read_text() for lock in locks), re.MULTILINE)
    assert pins == [engine.version] * 2
    # Every refusal says of itself how it is known.
    assert all(re.search(r"\b(tried|read)\b", reason) for reason in engine.refused.values())


@pytest.mark.parametrize("engine", ENGINES.values(), ids=lambda engine: engine.name)
def test_an_environment_for_gpus_is_proven_by_compiling_and_has_caches_of_its_own(engine: Engine) -> None:
    for program in engine.compiles.values():
        compile(program, engine.name, "exec")
    assert "cuda" in engine.compiles
    assert engine.caches and not set(engine.caches) & set(toolkit.CACHES)
    assert not {*engine.caches.values()} & {*toolkit.CACHES.values()}


def test_vllm_on_a_gpu() -> None:
    given = flags(CONFIG)
    expected = {
        "--model": "models/m",
        "--served-model-name": "m",
        "--dtype": "bfloat16",
        "--seed": "5",
        "--max-model-len": "2048",
        "--tensor-parallel-size": "2",
        "--max-num-seqs": "16",
        "--gpu-memory-utilization": "0.9",
        "--num-gpu-blocks-override": str(8192 // 16),
        "--reasoning-parser": "deepseek_r1",
        "--generation-config": "vllm",
        "--enable-prefix-caching": None,
    }
    assert given == given | expected
    # Kernels that would depend on what a machine has installed or can reach are left out.
    assert "-cc.pass_config.fuse_allreduce_rms=false" in ENGINES["vllm"].command(CONFIG, 1)
    variables = ENGINES["vllm"].environment(CONFIG)
    assert variables["VLLM_USE_FLASHINFER_SAMPLER"] == "0" and variables["VLLM_HAS_FLASHINFER_CUBIN"] == "1"
    on_cpu = replace(CONFIG, device="cpu")
    assert not any("fuse_allreduce" in word for word in ENGINES["vllm"].command(on_cpu, 1))
    assert not any("FLASHINFER" in name for name in ENGINES["vllm"].environment(on_cpu))
    assert not set(given) & {"--speculative-config", "--trust-remote-code", "--no-enable-chunked-prefill"}


def test_vllm_on_a_cpu_prefills_in_one_step_and_needs_no_share_of_a_gpu() -> None:
    given = flags(with_options("cpu", context_length=4096))
    assert given["--max-num-batched-tokens"] == "4096" and "--no-enable-chunked-prefill" in given
    assert given["--num-gpu-blocks-override"] == str(8192 // int(given["--block-size"] or 0))
    assert "--gpu-memory-utilization" not in given
    assert flags(with_options("cpu", context_length=512))["--max-num-batched-tokens"] == "2048"


def test_vllm_options_turned_the_other_way() -> None:
    given = flags(with_options(kv_cache_tokens=None, prefix_cache=False, kv_cache_dtype="fp8-e4m3"))
    assert "--no-enable-prefix-caching" in given and "--enable-prefix-caching" not in given
    assert given["--kv-cache-dtype"] == "fp8_e4m3"
    assert not set(given) & {"--num-gpu-blocks-override", "--block-size"}
    assert "--trust-remote-code" in flags(replace(CONFIG, trust_remote_code=True))
    assert "--reasoning-parser" not in flags(replace(CONFIG, reasoning_parser=None))


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ("ValueError: No available memory for the cache blocks. Try increasing", "serving.gpu_memory_fraction"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate", "Lower serving.gpu_memory_fraction"),
        ("api_server.py: error: unrecognized arguments: --no-such-flag", "rebuild the environment"),
        ("all is well", ""),
    ],
)
def test_vllm_advises_on_what_stands_in_its_log(line: str, advice: str) -> None:
    text = ENGINES["vllm"].advise(["INFO start", line, "INFO end"])
    assert advice in text and bool(text) == bool(advice)


def test_sglang_on_a_gpu() -> None:
    given = flags(CONFIG, "sglang")
    expected = {
        "--model-path": "models/m",
        "--random-seed": "5",
        "--context-length": "2048",
        "--tensor-parallel-size": "2",
        "--max-running-requests": "16",
        "--mem-fraction-static": "0.9",
        "--max-total-tokens": "8192",
        "--reasoning-parser": "deepseek-r1",
        "--sampling-defaults": "openai",
        "--enable-metrics": None,
        "--schedule-policy": "fcfs",
        "--kv-cache-dtype": "auto",
        "--enforce-disable-flashinfer-allreduce-fusion": None,
    }
    assert given == given | expected
    assert not set(given) & {"--device", "--disable-radix-cache", "--speculative-algorithm", "--trust-remote-code"}
    assert "--disable-radix-cache" in flags(with_options(prefix_cache=False), "sglang")
    on_cpu = flags(with_options("cpu"), "sglang")
    assert not {"--mem-fraction-static", "--enforce-disable-flashinfer-allreduce-fusion"} & set(on_cpu)


def test_scheduling_has_one_name_and_each_engine_its_own() -> None:
    config = with_options(scheduling="shortest-prompt")
    assert flags(config)["--scheduling-policy"] == "priority"
    assert {"--enable-priority-scheduling", "--schedule-low-priority-values-first"} <= set(flags(config, "sglang"))
    assert flags(with_options(scheduling="longest-prefix"), "sglang")["--schedule-policy"] == "lpm"


def test_speculation_by_the_text_and_by_a_model() -> None:
    ngram = with_options(speculative="ngram", speculative_tokens=4)
    assert json.loads(flags(ngram)["--speculative-config"] or "") == {
        **{"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_max": 4, "prompt_lookup_min": 1}
    }
    given = flags(ngram, "sglang")
    assert (given["--speculative-algorithm"], given["--speculative-num-draft-tokens"]) == ("NGRAM", "5")
    draft = replace(with_options(speculative="draft"), draft=Path("models/small"))
    assert json.loads(flags(draft)["--speculative-config"] or "") == {
        **{"method": "draft_model", "num_speculative_tokens": 3, "model": "models/small"}
    }
    given = flags(draft, "sglang")
    assert given["--speculative-draft-model-path"] == "models/small"
    assert (given["--speculative-num-steps"], given["--speculative-eagle-topk"]) == ("3", "1")


def test_what_an_engine_cannot_do_is_reported_with_its_reason() -> None:
    def refusals(engine: str, *tags: str, **options: object) -> dict[str, str]:
        served = asdict(replace(OPTIONS, **options)) | {"reasoning_parser": None}  # type: ignore[arg-type]
        return dict(ENGINES[engine].refusals(served, tags))

    assert not any(refusals(engine, device) for engine in ENGINES for device in ("cpu", "cuda"))
    assert "needs CUDA" in refusals("sglang", "cpu", speculative="ngram")["speculative"]
    assert not refusals("sglang", "cuda", speculative="ngram")
    old = refusals("vllm", "cpu", CPU_WITHOUT_AVX512, kv_cache_dtype="fp8-e4m3")["kv_cache_dtype"]
    assert old.startswith("vLLM 0.32.0 on cpu without AVX-512: ")
    assert not refusals("vllm", "cpu", kv_cache_dtype="fp8-e4m3")
    reasons = refusals("vllm", "cuda", scheduling="longest-prefix")
    assert reasons == {"scheduling": "vLLM 0.32.0 has no 'longest-prefix' here; it has fcfs, shortest-prompt"}


VLLM_LOG = """\
(APIServer pid=1) WARNING 11-24 11:36:26 [vllm.py:725] Model Runner V2 requires Triton; \
using the V1 model runner instead.
(EngineCore pid=16530) INFO 11-24 11:36:40 [utils.py:347] Using LBHNC KV cache layout.
(EngineCore pid=16530) WARNING 11-24 11:36:52 [vllm.py:725] Model Runner V2 requires Triton; \
using the V1 model runner instead.
"""
# As vLLM's sources write them where there is a GPU or a quantized checkpoint.
VLLM_SOURCE_LINES = """\
INFO [cuda.py:506] Using FLASH_ATTN attention backend out of potential backends: ['FLASH_ATTN', 'FLASHINFER'].
INFO [__init__.py:758] Selected CPUInt8ScaledMMLinearKernel for CompressedTensorsW8A8Int8
INFO [auto_gptq.py:352] Using MarlinLinearKernel for AutoGPTQLinearMethod
INFO [topk_topp_sampler.py:124] Using FlashInfer for top-p & top-k sampling.
INFO [base.py:123] Using Transformers modeling backend.
"""
SGLANG_LOG = """\
[2026-11-24 11:55:53] server_args=ServerArgs(model_path='/m', quantization=None, kv_cache_dtype='auto', \
attention_backend='torch_native', decode_attention_backend=None, sampling_backend='pytorch', \
fp8_gemm_runner_backend='auto', speculative_draft_attention_backend=None, moe_runner_backend='auto')
[2026-11-24 11:56:01] KV Cache is allocated. dtype: torch.bfloat16, #tokens: 16384, K size: 0.02 GB, V size: 0.02 GB
"""


@pytest.mark.parametrize(
    ("engine", "text", "backends"),
    [
        ("vllm", VLLM_LOG, {"kv_layout": ["LBHNC"], "runner": ["V1"]}),
        (
            "vllm",
            VLLM_SOURCE_LINES,
            {
                "attention": ["FLASH_ATTN"],
                "linear": ["CPUInt8ScaledMMLinearKernel", "MarlinLinearKernel"],
                "sampling": ["FlashInfer"],
            },
        ),
        ("sglang", SGLANG_LOG, {"attention": ["torch_native"], "sampling": ["pytorch"], "kv_cache": ["bfloat16"]}),
    ],
)
def test_the_log_has_the_selected_kernels_and_backends(
    engine: str, text: str, backends: dict[str, list[str]], tmp_path: Path
) -> None:
    (tmp_path / "log").write_text(text)
    assert ENGINES[engine].selected_backends(tmp_path / "log") == backends
