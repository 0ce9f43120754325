"""Reading a config: what the schema fills in, what YAML hides, and that every key is explained."""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from helpers.studies import REMOVED, SCHEMA, TINY, changed, load
from jsonschema import Draft202012Validator
from rllm_serving.datasets.loaders import FORMATS
from rllm_serving.datasets.micro_questions import SUITES
from rllm_serving.load.patterns import LOADS
from rllm_serving.quantization.calibration import KINDS
from rllm_serving.serving.engines import ENGINES, SAMPLED_SPECULATION, Options
from rllm_serving.study import config as checks
from rllm_serving.study.quantization_methods import METHODS
from rllm_serving.study.study import CODE_FORMATS
from snakemake.utils import validate

DEFINITION: dict[str, Any] = yaml.safe_load(SCHEMA.read_text())


def completed(config: dict[str, Any]) -> dict[str, Any]:
    config = copy.deepcopy(config)
    validate(config, str(SCHEMA))
    return config


def keys_of(schema: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted keys that a part of the schema allows, NAME for what the user names; serving options count once."""
    reference = schema.get("$ref", "").rpartition("/")[2]
    if reference in ("serving", "sampling") and prefix != f"{reference}.":
        return
    schema = DEFINITION["$defs"][reference] if reference else schema
    for name, part in schema.get("properties", {}).items():
        yield prefix + name
        yield from keys_of(part, f"{prefix}{name}.")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from keys_of(schema["additionalProperties"], f"{prefix}NAME.")
    if "items" in schema:
        yield from keys_of(schema["items"], prefix)


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(DEFINITION)


def test_defaults_are_filled_in_at_every_level() -> None:
    config = completed(TINY)
    assert completed(changed(("engines", REMOVED)))["engines"] == ["vllm", "sglang"]
    assert config["device"] == "cpu" and config["environments"]["torch_cpu_wheels"] is None
    assert config["sampling"] == {"temperature": 0.6, "top_p": 0.95}
    assert config["setups"] == {"baseline": {}} and config["quantizations"] == {"bf16": {}}
    single = config["experiments"]["single"]
    assert single["setups"] == ["baseline"] and single["quantizations"] == ["bf16"] and single["engines"] == "all"
    assert completed(changed(("sampling", {"top_p": 1})))["sampling"] == {"top_p": 1, "temperature": 0.6}
    del config["experiments"]["single"]["repeats"]
    assert completed(config)["experiments"]["single"]["repeats"] == 3


def test_the_baseline_is_there_beside_other_setups() -> None:
    study = load(
        changed(("setups", {"short": {"context_length": 128}}), ("experiments.budget.setups", ["baseline", "short"]))
    )
    assert {run.setup for run in study.runs.values()} == {"baseline", "short"}


@pytest.mark.parametrize(
    "file", [ROOT / "config" / "config.yaml", ROOT / "tests" / "data" / "small.yaml"], ids=lambda file: file.name
)
def test_the_configs_that_come_with_the_project_are_right(file: Path) -> None:
    checks.check_file(file)
    assert load(yaml.safe_load(file.read_text())).runs


def test_the_schema_allows_what_the_library_has() -> None:
    definitions = DEFINITION["$defs"]
    assert definitions["quantization"]["properties"]["method"]["enum"] == list(METHODS)
    assert definitions["quantization"]["properties"]["calibration"]["enum"] == list(KINDS)
    assert set(definitions["serving"]["properties"]) == {field.name for field in dataclasses.fields(Options)}
    assert set(definitions["load"]["properties"]["type"]["enum"]) == set(LOADS)
    assert set(definitions["dataset"]["properties"]["format"]["enum"]) == set(FORMATS) >= set(CODE_FORMATS)
    assert set(definitions["dataset"]["properties"]["suite"]["enum"]) == set(SUITES)
    for engine in ENGINES.values():
        assert set(definitions["model"]["properties"]["reasoning_parser"]["enum"]) == set(
            engine.values["reasoning_parser"]
        )
        assert set(engine.values["quantization"]) <= set(METHODS)
        for option in set(engine.values) - {"reasoning_parser", "quantization"}:
            allowed = set(definitions["serving"]["properties"][option]["enum"])
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


def test_a_repeated_key_is_found_at_any_depth(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("models:\n  a: {source: micro}\n  b: {source: micro, role: llm,\n      source: hub}\n")
    with pytest.raises(checks.ConfigError, match=rf"^{file}: line 4: the key 'source' is given twice"):
        checks.check_file(file)


def test_anchors_merges_and_equal_keys_of_different_mappings_are_no_repetition(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("a: &base {source: micro, role: llm}\nb:\n  <<: *base\n  role: rllm\nc: *base\n")
    checks.check_file(file)


def test_a_file_that_is_no_yaml_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("models: {a: [1\n")
    with pytest.raises(checks.ConfigError) as caught:
        checks.check_file(file)
    assert str(caught.value).startswith(f"{file}: not YAML: ") and "\n" not in str(caught.value)


def test_a_long_wrong_value_is_not_printed_whole() -> None:
    with pytest.raises(checks.ConfigError) as caught:
        checks.check_schema(changed(("models", ["x" * 50] * 50)), SCHEMA)
    assert len(str(caught.value)) < 150 and "..." in str(caught.value)


def test_choose_keeps_the_order_of_the_list_and_takes_all() -> None:
    assert checks.resolve_names("key", ["b", "a"], ["a", "b", "c"]) == ["b", "a"]
    assert checks.resolve_names("key", "all", {"a": 1, "b": 2}) == ["a", "b"]
    with pytest.raises(checks.ConfigError, match=r"^key: unknown 'x', 'y'; allowed: a$"):
        checks.resolve_names("key", ["x", "a", "y"], ["a"])


def test_only_entries_of_source_path_are_paths() -> None:
    model = {"source": "path", "path": "~/m", "role": "llm", "pair": "x"}
    found = dict(checks.config_paths(changed(("models.m", model))))
    assert found == {"models.m.path": Path("~/m").expanduser()}
