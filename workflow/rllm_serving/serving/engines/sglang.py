"""SGLang: flags, environment and names, as of 0.5.15."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from .base import Engine, MetricSource, ServerConfig

CHECKPOINTS_NEED_CUDA = (
    "a quantized checkpoint (compressed-tensors) stops at the check of the GPU's capability: 'Torch not compiled with "
    "CUDA enabled'"
)
BITSANDBYTES_NEEDS_CUDA = (
    "its bitsandbytes loader moves every weight to CUDA, and without the package it stops at 'Please install "
    "bitsandbytes>=0.46.1'"
)


class Sglang(Engine):
    """SGLang's OpenAI-compatible server."""

    name = "sglang"
    title = "SGLang"
    module = "sglang"
    flush_path = "/flush_cache"
    # On SIGTERM it sleeps for 9 s, even without requests, and then kills itself: waiting for that gains nothing.
    stop_grace_s = 0.5
    # Counters of tokens move only when a request ends; a counter's line is absent until it first moves.
    metrics: ClassVar[Mapping[str, MetricSource]] = {
        "kv_cache_usage": MetricSource("sglang:full_token_usage", "max"),
        "running": MetricSource("sglang:num_running_reqs"),
        "waiting": MetricSource("sglang:num_queue_reqs"),
        "preemptions": MetricSource("sglang:num_retracted_requests_total", absent=0.0),
        "prefix_queries": MetricSource("sglang:prompt_tokens_total", absent=0.0),
        "prefix_hits": MetricSource("sglang:cached_tokens_total", absent=0.0),
        "prompt_tokens": MetricSource("sglang:prompt_tokens_total", absent=0.0),
        "generated_tokens": MetricSource("sglang:generation_tokens_total", absent=0.0),
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
        ("cpu", "speculative", "ngram"): "NGRAM speculation stops at start, it needs CUDA",
        ("cpu", "speculative", "draft"): "STANDALONE speculation stops at start (Triton: 0 active drivers)",
        ("cpu", "speculative", "eagle3"): "EAGLE3 speculation stops at start (Triton: 0 active drivers)",
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
        # Update the gauges at every decoding step, as vLLM does.
        command += ["--enable-metrics", "--decode-log-interval", "1"]
        # Sampling parameters come with each request; a checkpoint's own defaults must not add to them.
        command += ["--sampling-defaults", "openai"]
        if config.device == "cpu":
            command += ["--device", "cpu"]
        else:
            command += ["--mem-fraction-static", str(options.gpu_memory_fraction)]
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

    def has_flushed(self, answer: bytes) -> bool:
        """See `Engine.has_flushed`."""
        return answer.startswith(b"Cache flushed")

    def environment(self, config: ServerConfig) -> dict[str, str]:
        """See `Engine.environment`."""
        variables = {"HF_HUB_OFFLINE": "1"}
        if config.device == "cpu":
            # One thread decodes a tiny model as fast as two and leaves a core to the client.
            variables |= {"SGLANG_USE_CPU_ENGINE": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        return variables
