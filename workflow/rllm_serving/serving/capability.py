"""Compute capability: what GPUs of each generation compute formats with. "CUDA" alone says too little.

| | GPUs | FP8 weights | FP8 KV cache on vLLM | INT8 weights and activations |
|---|---|---|---|---|
| sm80, sm86 | A100, A40, RTX 30 | W8A16 (Marlin): activations stay in bfloat16 | FlashInfer | CUTLASS |
| sm89 | L4, L40, RTX 40 | W8A8 | FlashInfer | CUTLASS |
| sm90 | H100, H200 | W8A8 | FlashAttention 3 (E5M2: FlashInfer) | CUTLASS |
| sm100, sm120 | B200, RTX 50 | W8A8 | FlashInfer | refused by both engines |

As read in the sources of vLLM 0.32.0 and SGLang 0.5.15.post1.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import UserError


class KernelError(UserError):
    """A GPU has no kernel for a server's weights; the message names both."""


@dataclass(frozen=True, order=True)
class Capability:
    """A GPU's compute capability: major and minor, as 9 and 0 of an H100."""

    major: int
    minor: int

    @property
    def name(self) -> str:
        """As compilers call it: "sm90"."""
        return f"sm{self.major}{self.minor}"

    @classmethod
    def named(cls, name: str) -> Capability:
        """The one of that `name`: the last figure is the minor."""
        return cls(int(name[2:-1]), int(name[-1]))

    @classmethod
    def of(cls, nvml: Any, handle: Any) -> Capability:
        """Ask NVML; raises its errors."""
        return cls(*map(int, nvml.nvmlDeviceGetCudaComputeCapability(handle)))


BFLOAT16, FP8, BLACKWELL = Capability(8, 0), Capability(8, 9), Capability(10, 0)
OLDEST = BFLOAT16
"""Every model is served in bfloat16."""
_NO_INT8: Mapping[str, str] = {
    "vllm": "its CUTLASS kernel ends the first step: 'Int8 not supported on SM…'",
    "sglang": "its kernel ends the first step: 'No implemented int8_scaled_mm for current compute capability'",
}


def refusal(capability: Capability, engine: str, method: str) -> str | None:
    """Why an engine can't serve a method of quantization on such a GPU; None where it can.

    Args:
        capability: the GPU's.
        engine: name of the engine.
        method: as in `study.quantization_methods.METHODS`.
    """
    if method == "torchao-fp8-weight" and capability < FP8:
        return f"{method} on {capability.name}: torchao asks for {FP8.name} or later; int8 is the 8-bit format there"
    if method == "int8" and capability >= BLACKWELL:
        return f"int8 on {capability.name}: {_NO_INT8[engine]}; fp8 is the 8-bit format there"
    return None


def check_kernels(capabilities: Iterable[str], engine: str, method: str) -> None:
    """Raise KernelError where an engine can't serve a method of quantization on GPUs of these capabilities' names."""
    for name in capabilities:
        if reason := refusal(Capability.named(name), engine, method):
            raise KernelError(f"{engine} cannot serve {reason}; take it out of the experiments' quantizations")


def notes(capability: Capability, methods: Collection[str], kv_cache_dtypes: Collection[str]) -> Iterator[str]:
    """Yield what means something else on such a GPU than the option's name says.

    Args:
        capability: the GPU's.
        methods: methods of quantization of a study.
        kv_cache_dtypes: formats of the KV cache, as in `Options`.
    """
    if capability < FP8 and "fp8" in methods:
        yield (
            f"{capability.name} has no FP8 arithmetic: both engines serve fp8 as W8A16 (Marlin), which saves memory "
            "and reads, not computing, and leaves activations in bfloat16"
        )
    if capability < FP8 and any(name.startswith("fp8") for name in kv_cache_dtypes):
        yield f"{capability.name} has no FP8 arithmetic: an FP8 KV cache is turned into bfloat16 as it is read"
    fp8 = {"fp8-e4m3", "fp8-e5m2"} if capability.major == 8 else {"fp8-e5m2"} if capability.major == 9 else set()
    for name in sorted(fp8.intersection(kv_cache_dtypes)):
        yield (
            f"vLLM serves the KV cache {name} on {capability.name} by FlashInfer, and bfloat16 by FlashAttention: what "
            "the format changes and what the kernel changes come together"
        )
