"""What is said to differ between two studies."""

from __future__ import annotations

from typing import Any

from helpers.two_studies import record
from rllm_serving.analysis.study_versions import MEASURED, differences


def listed(table: Any) -> dict[tuple[str, str], tuple[Any, Any]]:
    texts = table.astype(object).where(table.notna(), None)
    return {(row.about, row.item): (row.then, row.now) for row in texts.itertuples()}


def test_the_same_studies_differ_in_nothing() -> None:
    assert differences([record()], [record()]).empty


def test_versions_machines_and_config_keys_that_differ_are_listed() -> None:
    environment = {"engine_version": "0.2", "python": "3.11.7", "packages": {"torch": "2.2", "triton": "3"}}
    gpus = [{"name": "X"}, {"name": "X"}]
    now = record(
        hardware={"driver": "570.1", "gpus": gpus},
        config={"sampling": {"temperature": 0, "top_p": 0.95}, "options": {"prefix_cache": False}},
        environment=environment,
        model={"source": "hub", "id": "a/b", "commit": "d" * 40},
    )
    found = listed(differences([record()], [now]))
    assert found["vllm", "version"] == ("0.1", "0.2")
    assert found["vllm", "package torch"] == ("2.1", "2.2")
    assert found["vllm", "package numpy"] == ("2.0", None) and found["vllm", "package triton"] == (None, "3")
    assert found["machine", "driver"] == (None, "570.1") and found["machine", "GPUs"] == (None, "2 x X")
    assert found["model m_llm", "commit"] == ("c" * 40, "d" * 40)
    assert found["experiment e", "sampling.temperature"] == ("0.6", "0")
    server = "server e/vllm/m_llm/bf16/baseline"
    assert found[server, "options.prefix_cache"] == ("True", "False")
    assert ("machine", "cpu") not in found and ("vllm", "python") not in found


def test_quantized_checkpoints_tell_their_tools() -> None:
    def quantized(version: str) -> dict[str, Any]:
        made = {"method": "gptq-int4", "scheme": "W4A16", "versions": {"llmcompressor": version}, "calibration": None}
        return record(model={"source": "quantized", "quantization": made})

    found = listed(differences([quantized("0.8")], [quantized("0.9")]))
    assert found == {("model m_llm as bf16", "quantization.versions.llmcompressor"): ("0.8", "0.9")}


def test_several_values_of_a_study_stand_together() -> None:
    two = [record(), record(hardware={"system": "Linux-6.2"})]
    assert listed(differences(two, [record()])) == {("machine", "system"): ("Linux-6.1; Linux-6.2", "Linux-6.1")}


def test_what_only_one_study_measured_is_one_line() -> None:
    # Its server is among what is not compared.
    assert listed(differences([record()], [record(), record("other")])) == {("model other", MEASURED): ("no", "yes")}
