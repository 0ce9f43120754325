"""The methods of weight quantization that a config can name; facts that need neither torch nor an engine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """How weights are stored and who makes them so.

    Attributes:
        scheme: llmcompressor's name for the format; None where the engine quantizes bf16 weights as it loads them.
        modifier: how weights are rounded: "rtn" (to the nearest), "gptq" or "awq", which look at texts.
        ratio: bytes of a quantized layer (weights, scales, zero points) over its bytes in bf16; None where no
            checkpoint is made.
        loaded_ratio: the same where the engine quantizes bf16 weights while it loads them, on the GPU.
        formats: what `quant_method` in the config.json of a ready-made checkpoint may say.
    """

    scheme: str | None = None
    modifier: str = "rtn"
    ratio: float | None = None
    formats: tuple[str, ...] = ()
    loaded_ratio: float | None = None

    @property
    def has_checkpoint(self) -> bool:
        """Whether a checkpoint of its own is served, not the model's bf16 one."""
        return self.scheme is not None

    @property
    def calibrated(self) -> bool:
        """Whether making it looks at texts."""
        return self.modifier != "rtn"


CALIBRATION_SAMPLES = 64
"""Texts that weights are rounded by, where the config gives no number."""
LONGEST_TEXT, MICRO_LONGEST_TEXT = 2048, 512
"""Tokens of a text at most, prompt included; micro models are done long before."""
TOOL_FORMAT = "compressed-tensors"
"""The format of the checkpoints that are made here, by llmcompressor."""
# Groups of 128 weights share a scale of 2 bytes and, where zero is not in the middle, a zero point of 4 bits.
_INT4, _INT4_ZEROS = 0.25 + 2 / 256, 0.25 + 2.5 / 256

METHODS: dict[str, Method] = {
    "bf16": Method(),
    "fp8": Method("FP8_DYNAMIC", ratio=0.5, formats=(TOOL_FORMAT, "fp8")),
    "int8": Method("W8A8", ratio=0.5, formats=(TOOL_FORMAT,)),
    "gptq-int4": Method("W4A16", "gptq", _INT4, (TOOL_FORMAT, "gptq")),
    "awq-int4": Method("W4A16_ASYM", "awq", _INT4_ZEROS, (TOOL_FORMAT, "awq")),
    # Blocks of 64 weights share a scale of 4 bytes.
    "bnb-nf4": Method(loaded_ratio=0.25 + 4 / 128),
    "torchao-int8-weight": Method(loaded_ratio=0.5),
    "torchao-int8-dynamic": Method(loaded_ratio=0.5),
    "torchao-fp8-weight": Method(loaded_ratio=0.5),
}
