"""What formats mean on GPUs of each generation."""

from __future__ import annotations

import pytest
from helpers.fake_nvml import Nvml
from rllm_serving.serving.capability import OLDEST, Capability, notes, refusal
from rllm_serving.serving.engines import ENGINES

A100, L4, H100, B200 = Capability(8, 0), Capability(8, 9), Capability(9, 0), Capability(10, 0)


def test_capabilities_have_an_order_and_a_name() -> None:
    assert Capability(7, 5) < OLDEST == A100 < L4 < H100 < B200 < Capability(12, 0)
    assert Capability.of(Nvml(capability=(12, 0)), 0).name == "sm120"


def test_no_engine_has_int8_on_blackwell() -> None:
    for engine in ENGINES:
        found = refusal(B200, engine, "int8")
        assert found is not None and found.startswith("int8 on sm100: ") and "fp8 is the 8-bit format there" in found
        assert refusal(H100, engine, "int8") is None and refusal(B200, engine, "fp8") is None


def test_torchao_has_no_fp8_before_ada() -> None:
    assert "torchao asks for sm89" in str(refusal(A100, "sglang", "torchao-fp8-weight"))
    assert refusal(L4, "sglang", "torchao-fp8-weight") is None and refusal(A100, "sglang", "fp8") is None


@pytest.mark.parametrize(
    ("capability", "methods", "formats", "said"),
    [
        (A100, {"bf16", "fp8"}, {"auto"}, ["W8A16"]),
        (A100, {"bf16"}, {"fp8-e4m3"}, ["as it is read", "by FlashInfer"]),
        (L4, {"fp8"}, {"auto", "fp8-e4m3"}, ["by FlashInfer"]),
        (H100, {"fp8"}, {"fp8-e4m3"}, []),
        (H100, {"fp8"}, {"fp8-e5m2"}, ["by FlashInfer"]),
        (B200, {"fp8"}, {"fp8-e4m3"}, []),
    ],
)
def test_what_fp8_means_there_is_told(
    capability: Capability, methods: set[str], formats: set[str], said: list[str]
) -> None:
    found = list(notes(capability, methods, formats))
    assert len(found) == len(said) and all(part in note for part, note in zip(said, found, strict=True))
