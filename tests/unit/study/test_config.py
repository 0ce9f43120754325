"""Reading a config: what is filled in, what YAML hides, and that what is made of the models is current."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from helpers.studies import REMOVED, TINY, changed, load
from jsonschema import Draft202012Validator
from rllm_serving.datasets.loaders import FORMATS
from rllm_serving.datasets.micro_questions import SUITES
from rllm_serving.load.patterns import LOADS
from rllm_serving.quantization.calibration import KINDS
from rllm_serving.serving.engines import ENGINES, SAMPLED_SPECULATION, Options
from rllm_serving.study.config import complete_config
from rllm_serving.study.config_docs import README, SCHEMA, readme_text, schema_text
from rllm_serving.study.config_errors import ConfigError, resolve_names
from rllm_serving.study.config_file import check_file
from rllm_serving.study.quantization_methods import METHODS
from rllm_serving.study.study import CODE_FORMATS

DEFINITION: dict[str, Any] = json.loads(schema_text())


def keys_of(schema: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted keys that a part of the schema allows, NAME for what users name; serving options and terms count once."""
    reference = schema.get("$ref", "").rpartition("/")[2]
    if reference in ("Serving", "ExperimentSampling") and prefix != "serving.":
        return
    if reference == "Term" and not prefix.endswith("plus."):
        return
    schema = DEFINITION["$defs"][reference] if reference else schema
    for name, part in schema.get("properties", {}).items():
        yield prefix + name
        yield from keys_of(part, f"{prefix}{name}.")
    named = [schema.get("additionalProperties"), *schema.get("patternProperties", {}).values()]
    for entry in named:
        if isinstance(entry, dict):
            yield from keys_of(entry, f"{prefix}NAME.")
    for kind in schema.get("oneOf", []):
        yield from keys_of(kind, prefix)
    if "items" in schema:
        yield from keys_of(schema["items"], prefix)
    for alternative in schema.get("oneOf", []):
        yield from keys_of(alternative, prefix)


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(DEFINITION)


@pytest.mark.parametrize("name", ["config", "first-hour", "single-gpu", "paper"])
def test_editors_take_the_configs_that_come_with_the_project(name: str) -> None:
    config = yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text())
    assert [error.message for error in Draft202012Validator(DEFINITION).iter_errors(config)] == []


def test_the_schema_and_the_tables_are_those_of_the_models() -> None:
    how = "run: make config-docs"
    assert SCHEMA.read_text(encoding="utf-8") == schema_text(), how
    assert README.read_text(encoding="utf-8") == readme_text(README.read_text(encoding="utf-8")), how


NUMBERS = {
    "sampling.temperature": (0, 0.0, -0.0),
    "sampling.top_p": (1, 1.0),
    "measurement.request_timeout_s": (600, 600.0, 6e2),
    "grading.timeout_s": (10, 10.0),
    "models.tiny-llm.training_scale": (1, 1.0),
    "experiments.budget.slo": ({"ttfvt_s": 2, "tpot_ms": 50}, {"ttfvt_s": 2.0, "tpot_ms": 50.0}),
    "experiments.budget.sampling": ({"temperature": 0}, {"temperature": -0.0}),
    "experiments.budget.loads": (
        [{"type": "open", "rate": 2, "burstiness": 1}],
        [{"burstiness": 1.0, "rate": 2.0, "type": "open"}],
    ),
    "traces": tuple({"t": {"source": "azure", "path": "x", "start_s": start}} for start in (600, 600.0)),
}


@pytest.mark.parametrize(("key", "values"), NUMBERS.items(), ids=NUMBERS)
def test_one_number_spelled_in_several_ways_is_one_config(key: str, values: tuple[Any, ...]) -> None:
    assert len({json.dumps(complete_config(changed((key, value)))) for value in values}) == 1


def backwards(value: Any) -> Any:
    """The same with the keys of every mapping in the opposite order."""
    if isinstance(value, dict):
        return {name: backwards(part) for name, part in reversed(value.items())}
    return [backwards(part) for part in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", ["config", "single-gpu", "paper"])
def test_the_order_of_keys_changes_nothing(name: str) -> None:
    config = yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text())
    one, other = load(config), load(backwards(config))
    assert json.dumps(one.config) == json.dumps(other.config)
    for what in ("models", "datasets", "pairs", "sweeps", "priorities", "unsupported"):
        assert json.dumps(getattr(one, what)) == json.dumps(getattr(other, what)), what
    assert [run.to_dict() for run in one.runs.values()] == [run.to_dict() for run in other.runs.values()]
    assert list(one.runs) == list(other.runs)


@pytest.mark.parametrize(
    ("key", "value"), [("seed", True), ("measurement.sample_hz", True), ("grading.execute_code", 1)]
)
def test_true_is_no_number_and_one_is_not_true(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^{key}: {value} is not "):
        complete_config(changed((key, value)))


def test_null_is_a_value_only_where_it_means_something() -> None:
    assert complete_config(changed(("serving.kv_cache_tokens", None)))["serving"]["kv_cache_tokens"] is None
    assert "kv_cache_tokens" not in complete_config(TINY)["serving"]
    with pytest.raises(ConfigError, match=r"^serving.kv_cache_tokens: 3.0 is not a whole number or null$"):
        complete_config(changed(("serving.kv_cache_tokens", 3.0)))
    with pytest.raises(ConfigError, match=r"^models.tiny-llm.pair: nothing is not text"):
        complete_config(changed(("models.tiny-llm.pair", None)))


def test_the_mistake_nearest_to_the_top_is_told_first() -> None:
    deep, shallow = ("experiments.budget.loads", [{"type": "batch", "size": 0}]), ("measurement.sample_rate", 5)
    with pytest.raises(
        ConfigError, match=r"^measurement: unknown key 'sample_rate'; allowed: gates, max_failed_rate, "
    ):
        complete_config(changed(deep, shallow))


def test_defaults_are_filled_in_at_every_level() -> None:
    config = complete_config(TINY)
    assert complete_config(changed(("engines", REMOVED)))["engines"] == ["vllm", "sglang"]
    assert config["device"] == "cpu" and config["environments"]["torch_cpu_wheels"] is None
    assert config["sampling"] == {"temperature": 0.6, "top_p": 0.95}
    assert config["setups"] == {"baseline": {}} and config["quantizations"] == {"bf16": {}}
    single = config["experiments"]["single"]
    assert single["setups"] == ["baseline"] and single["quantizations"] == ["bf16"] and single["engines"] == "all"
    assert complete_config(changed(("sampling", {"top_p": 1})))["sampling"] == {"top_p": 1, "temperature": 0.6}
    del config["experiments"]["single"]["repeats"]
    assert complete_config(config)["experiments"]["single"]["repeats"] == 1


def test_the_baseline_is_there_beside_other_setups() -> None:
    study = load(
        changed(("setups", {"short": {"context_length": 128}}), ("experiments.budget.setups", ["baseline", "short"]))
    )
    assert {run.setup for run in study.runs.values()} == {"baseline", "short"}


CONFIGS = [ROOT / "config" / f"{name}.yaml" for name in ("config", "first-hour", "single-gpu", "paper")]
CONFIGS += [ROOT / "tests" / "data" / f"{name}.yaml" for name in ("small", "gpu")]


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.name)
def test_the_configs_that_come_with_the_project_are_right(file: Path) -> None:
    check_file(file)
    assert load(yaml.safe_load(file.read_text())).runs


def test_the_schema_allows_what_the_library_has() -> None:
    definitions = DEFINITION["$defs"]
    assert definitions["Quantization"]["properties"]["method"]["enum"] == list(METHODS)
    assert definitions["Quantization"]["properties"]["calibration"]["enum"] == list(KINDS)
    assert set(definitions["Serving"]["properties"]) == {field.name for field in dataclasses.fields(Options)}
    assert set(definitions["Load"]["properties"]["type"]["enum"]) == set(LOADS)
    assert set(definitions["Dataset"]["properties"]["format"]["enum"]) == set(FORMATS) >= set(CODE_FORMATS)
    assert set(definitions["Dataset"]["properties"]["suite"]["enum"]) == set(SUITES)
    for engine in ENGINES.values():
        assert set(definitions["Model"]["properties"]["reasoning_parser"]["enum"]) == set(
            engine.values["reasoning_parser"]
        )
        assert set(engine.values["quantization"]) <= set(METHODS)
        for option in set(engine.values) - {"reasoning_parser", "quantization"}:
            allowed = set(definitions["Serving"]["properties"][option]["enum"])
            assert allowed >= set(engine.values[option])
        assert {option for _, option, _ in engine.refused} <= {*engine.values, SAMPLED_SPECULATION}


def test_every_key_is_explained_in_a_table_and_no_other() -> None:
    explained: list[str] = []
    prefix = ""
    for line in (ROOT / "config" / "README.md").read_text().splitlines():
        if line.startswith("#"):
            heading = re.search(r"`([^`]+)`", line)
            prefix = f"{heading[1]}." if heading else ""
        elif row := re.match(r"\| `([^`]+)`", line):
            explained.append(prefix + row[1])
    assert len(explained) == len(set(explained))
    assert set(explained) == set(keys_of(DEFINITION))


def test_a_long_wrong_value_is_not_printed_whole() -> None:
    with pytest.raises(ConfigError) as caught:
        complete_config(changed(("models", ["x" * 50] * 50)))
    assert len(str(caught.value)) < 150 and "..." in str(caught.value)


def test_choose_keeps_the_order_of_the_list_and_takes_all() -> None:
    assert resolve_names("key", ["b", "a"], ["a", "b", "c"]) == ["b", "a"]
    assert resolve_names("key", "all", {"a": 1, "b": 2}) == ["a", "b"]
    with pytest.raises(ConfigError, match=r"^key: unknown 'x', 'y'; allowed: a$"):
        resolve_names("key", ["x", "a", "y"], ["a"])
