"""SGLang: flags, environment and names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from . import sglang_resolved
from .base import Engine, MetricSource, Options, ServerConfig, Told

CHECKPOINTS_NEED_CUDA = (
    "a quantized checkpoint (compressed-tensors) stops at the check of the GPU's capability: 'Torch not compiled with "
    "CUDA enabled' (tried)"
)
BITSANDBYTES_NEEDS_CUDA = (
    "its bitsandbytes loader moves every weight to CUDA (read), and without the package it stops at 'Please install "
    "bitsandbytes>=0.46.1' (tried)"
)
MIB, GIB = 2**20, 2**30
PREFILL_GRAPHS = 64
"""Sizes that a prefill step has CUDA graphs for, about."""
GRAPH_REQUESTS = ((20, 8, 8), (35, 24, 80), (60, 32, 160), (160, 256, 512))
"""Up to so many GiB of a GPU: requests of the largest CUDA graph on fewer than four GPUs, and on four or more."""
LOGGING = Path(__file__).with_name("sglang_logging.json")
"""SGLang updates its gauges where it writes a line on every batch. This silences those lines, hundreds of megabytes in
a long run, and leaves all others as SGLang has them."""
COMPILES = """
import torch
from sglang.jit_kernel.norm import _jit_rmsnorm_module
from sglang.jit_kernel.utils import override_jit_cuda_arch
with override_jit_cuda_arch(9, 0):
    _jit_rmsnorm_module(4096, torch.bfloat16)
"""


class Sglang(Engine):
    """SGLang's OpenAI-compatible server."""

    name = "sglang"
    title = "SGLang"
    module = "sglang"
    version = "0.5.15.post1"
    compiles: ClassVar[Mapping[str, str]] = {"cuda": COMPILES}
    caches: ClassVar[Mapping[str, str]] = {"SGLANG_CACHE_DIR": "sglang", "SGLANG_DG_CACHE_DIR": "deep-gemm"}
    flush_path = "/flush_cache"
    info_path = "/server_info"
    # On SIGTERM it sleeps for 9 s, even without requests, and then kills itself: waiting for that gains nothing.
    stop_grace_s = 0.5
    # Counters of tokens move only when a request ends; a counter's line is absent until it first moves. Those of every
    # request have moved before the first sample is taken, for a server has answered by then.
    metrics: ClassVar[Mapping[str, MetricSource]] = {
        "kv_cache_usage": MetricSource("sglang:full_token_usage", "max"),
        "running": MetricSource("sglang:num_running_reqs"),
        "waiting": MetricSource("sglang:num_queue_reqs"),
        "preemptions": MetricSource("sglang:num_retracted_requests_total", absent=0.0),
        "prefix_queries": MetricSource("sglang:prompt_tokens_total"),
        "prefix_hits": MetricSource("sglang:cached_tokens_total", absent=0.0),
        # Of ended requests, as tokens are. Which drafts were accepted no counter tells; see `accepted_per_step`.
        "spec_steps": MetricSource("sglang:spec_verify_calls_total", absent=0.0),
        "prompt_tokens": MetricSource("sglang:prompt_tokens_total"),
        "generated_tokens": MetricSource("sglang:generation_tokens_total"),
    }
    # Read from the resolved arguments that it prints; "auto" names no backend.
    kernels: ClassVar[Mapping[str, str]] = {
        **{
            name: rf"\b{argument}='(?!auto')(\w+)'"
            for name, argument in {
                **{"attention": "attention_backend", "sampling": "sampling_backend", "quantization": "quantization"},
                **{"prefill_attention": "prefill_attention_backend", "decode_attention": "decode_attention_backend"},
                **{"fp8_gemm": "fp8_gemm_runner_backend", "moe": "moe_runner_backend", "torchao": "torchao_config"},
            }.items()
        },
        "kv_cache": r"KV Cache is allocated\. dtype: (?:torch\.)?(\w+)",
    }
    pool_tokens = r"max_total_num_tokens=(\d+), chunked_prefill_size="
    counts_think_close = True
    budget_ends_first = True
    heeds_request_seeds = False
    values: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "reasoning_parser": {"deepseek-r1": "deepseek-r1", "qwen3": "qwen3"},
        "kv_cache_dtype": {"auto": "auto", "fp8-e4m3": "fp8_e4m3", "fp8-e5m2": "fp8_e5m2"},
        "scheduling": {
            **{"fcfs": "fcfs", "shortest-prompt": "fcfs", "random": "random"},
            **{"longest-prefix": "lpm", "longest-output": "lof"},
        },
        "speculative": {"none": "", "ngram": "NGRAM", "draft": "STANDALONE", "eagle3": "EAGLE3"},
        # A checkpoint's own format is read from its config.json; the other methods are applied while bf16 is loaded.
        "quantization": {
            **dict.fromkeys(("bf16", "fp8", "int8", "gptq-int4", "awq-int4"), ""),
            **{"bnb-nf4": "bitsandbytes", "torchao-int8-weight": "int8wo"},
            **{"torchao-int8-dynamic": "int8dq", "torchao-fp8-weight": "fp8wo"},
        },
    }
    refused: ClassVar[Mapping[tuple[str, str, str], str]] = {
        ("cpu", "speculative", "ngram"): "NGRAM speculation stops at start, it needs CUDA (tried)",
        ("cpu", "speculative", "draft"): "STANDALONE speculation stops at start: 'Triton: 0 active drivers' (tried)",
        ("cpu", "speculative", "eagle3"): "EAGLE3 speculation needs Triton as STANDALONE does (read)",
        ("cpu", "quantization", "bnb-nf4"): BITSANDBYTES_NEEDS_CUDA,
        **{("cpu", "quantization", name): CHECKPOINTS_NEED_CUDA for name in ("fp8", "int8", "gptq-int4", "awq-int4")},
    }
    advice: ClassVar[Mapping[str, str]] = {
        "Not enough memory": "Raise serving.gpu_memory_fraction or serving.tensor_parallel, "
        "or lower serving.kv_cache_tokens.",
    }

    def command(self, config: ServerConfig, port: int) -> list[str]:
        """See `Engine.command`."""
        options = config.options
        command = [str(config.python), "-m", "sglang.launch_server"]
        command += ["--model-path", str(config.model), "--served-model-name", config.served_name]
        command += ["--host", "127.0.0.1", "--port", str(port), "--random-seed", str(config.seed)]
        command += ["--dtype", "bfloat16", "--context-length", str(options.context_length)]
        command += ["--tensor-parallel-size", str(options.tensor_parallel)]
        command += ["--max-running-requests", str(options.max_running_requests)]
        # Update the gauges at every decoding step, as vLLM does. The lines that come with it are silenced: LOGGING.
        command += ["--enable-metrics", "--decode-log-interval", "1"]
        # Sampling parameters come with each request; a checkpoint's own defaults must not add to them.
        command += ["--sampling-defaults", "openai"]
        if config.device == "cpu":
            command += ["--device", "cpu"]
        else:
            command += ["--mem-fraction-static", str(options.gpu_memory_fraction)]
            # By itself SGLang takes 2,048 to 16,384, by the GPU's memory.
            command += ["--chunked-prefill-size", str(options.prefill_chunk_tokens)]
            # By itself it fuses these on some GPUs and for some models: other kernels elsewhere.
            command += ["--enforce-disable-flashinfer-allreduce-fusion"]
        if options.kv_cache_tokens is not None:
            command += ["--max-total-tokens", str(options.kv_cache_tokens)]
        command += ["--kv-cache-dtype", self.translate("kv_cache_dtype", options.kv_cache_dtype)]
        command += ["--schedule-policy", self.translate("scheduling", options.scheduling)]
        method = self.translate("quantization", config.quantization)
        if config.quantization == "bnb-nf4":
            command += ["--quantization", method, "--load-format", method]
        elif method:
            command += ["--torchao-config", method]
        if options.scheduling == "shortest-prompt":
            command += ["--enable-priority-scheduling", "--schedule-low-priority-values-first"]
            command += ["--disable-priority-preemption", "--default-priority-value", "0"]
        if options.speculative != "none":
            command += ["--speculative-algorithm", self.translate("speculative", options.speculative)]
            command += ["--speculative-num-draft-tokens", str(options.speculative_tokens + 1)]
        if options.speculative == "ngram":
            # A chain of drafts, as in vLLM, instead of a tree. It is still looked up in all that was served since the
            # cache was emptied, while vLLM looks in the request alone.
            command += ["--speculative-ngram-max-bfs-breadth", "1"]
        if config.draft is not None:
            # A chain of drafts, as in vLLM; SGLang counts the token of the model itself as one more draft.
            command += ["--speculative-draft-model-path", str(config.draft), "--speculative-eagle-topk", "1"]
            command += ["--speculative-num-steps", str(options.speculative_tokens)]
        if not options.prefix_cache:
            command += ["--disable-radix-cache"]
        if config.reasoning_parser is not None:
            command += ["--reasoning-parser", self.translate("reasoning_parser", config.reasoning_parser)]
        if config.trust_remote_code:
            command += ["--trust-remote-code"]
        return command

    def weights_and_pool(self, gpu_bytes: int, options: Options) -> float:
        """See `Engine.weights_and_pool`. SGLang's share is weights and pool; the rest is as its own rule reserves it.

        That rule (`ServerArgs._handle_gpu_memory_settings`): half a GiB, 1.5 MiB a token of a prefill chunk, 2 MiB a
        request of the largest CUDA graph, 1 GiB for eight GPUs, 8 MiB a prefill graph; 10 GiB at least on large GPUs.
        """
        few, many = next((sizes for limit, *sizes in GRAPH_REQUESTS if gpu_bytes < limit * GIB), [512, 512])
        graphs = few if options.tensor_parallel < 4 else many
        reserved = 512 + 1.5 * max(options.prefill_chunk_tokens, 2048) + 2 * graphs + 128 * options.tensor_parallel
        reserved += 8 * PREFILL_GRAPHS
        if gpu_bytes > 60 * GIB:
            reserved = max(reserved, 10 * 1024)
        # The share is of the memory that is free once CUDA and NCCL have taken theirs.
        free = gpu_bytes - 1.5 * GIB - GIB * (options.tensor_parallel > 1)
        return min(options.gpu_memory_fraction * free, gpu_bytes - reserved * MIB)

    def has_flushed(self, answer: bytes) -> bool:
        """See `Engine.has_flushed`."""
        return answer.startswith(b"Cache flushed")

    def resolved(self, config: ServerConfig, told: Told) -> dict[str, Any]:
        """See `Engine.resolved`."""
        online = self.translate("quantization", config.quantization)
        return sglang_resolved.resolved(config, told.info, told.log, online)

    def environment(self, config: ServerConfig) -> dict[str, str]:
        """See `Engine.environment`."""
        variables = {"HF_HUB_OFFLINE": "1", "SGLANG_LOGGING_CONFIG_PATH": str(LOGGING)}
        if config.device == "cpu":
            # One thread decodes a tiny model as fast as two and leaves a core to the client.
            variables |= {"SGLANG_USE_CPU_ENGINE": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        return variables
