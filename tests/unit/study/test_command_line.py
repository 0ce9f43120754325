"""Config files and values that a call of Snakemake names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.studies import TINY, write
from rllm_serving.study.command_line import check_command_line, typed_values
from rllm_serving.study.config_errors import ConfigError


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A good config in the current folder."""
    monkeypatch.chdir(tmp_path)
    return write(TINY, tmp_path / "study.yaml")


@pytest.mark.parametrize(
    "call",
    [
        "--configfile study.yaml",
        "-n single --configfile study.yaml --cores 2",
        "--configfile study.yaml study.yaml -- single",
        "--configfile=study.yaml single",
        "--configfile none.yaml --configfile study.yaml",
        "--config seed=5 device=cpu -n single",
        "--cores all",
    ],
)
def test_good_calls(study: Path, call: str) -> None:
    check_command_line(call.split())


@pytest.mark.parametrize("word", ["single", "results/points.csv", "results/claims.json"])
def test_a_target_taken_for_a_config_file_is_recognised(study: Path, word: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"^--configfile: Snakemake takes '{word}' for a config file, .* put targets"
    ):
        check_command_line(["-n", "--configfile", "study.yaml", word])


def test_a_target_taken_for_a_value_is_recognised(study: Path) -> None:
    with pytest.raises(ConfigError, match=r"^--config: 'single' is no KEY=VALUE, .* put targets before it"):
        check_command_line(["--config", "seed=5", "single"])


def test_every_file_is_checked_and_the_default_where_none_is_named(study: Path) -> None:
    Path("broken.yaml").write_text("models: {a: [1\n")
    with pytest.raises(ConfigError, match=r"^broken\.yaml: line 2: not YAML: "):
        check_command_line(["--configfile", "study.yaml", "broken.yaml", "-n"])
    with pytest.raises(ConfigError, match=r"^none\.yaml: cannot be read"):
        check_command_line(["--configfile", "study.yaml", "none.yaml"])
    Path("other/config").mkdir(parents=True)
    Path("broken.yaml").rename("other/config/config.yaml")
    check_command_line(["-n"])
    with pytest.raises(ConfigError, match=r"^other/config/config\.yaml: line 2: not YAML: "):
        check_command_line(["-n", "--directory", "other"])


VALUES: dict[str, Any] = {
    "study=2025": "2025",
    "study=no": "no",
    "seed=5": 5,
    "device=cpu": "cpu",
    "engines=[vllm]": ["vllm"],
    "engines=": None,
    "sampling={temperature: 0, top_p: 0.5}": {"temperature": 0, "top_p": 0.5},
    "serving={prefix_cache: false, kv_cache_tokens: null}": {"prefix_cache": False, "kv_cache_tokens": None},
    "models={a: {revision: 1234567, thinking: true}}": {"a": {"revision": "1234567", "thinking": True}},
    "experiments={budget: {budgets: [16, 32], engines: all}}": {"budget": {"budgets": [16, 32], "engines": "all"}},
}


@pytest.mark.parametrize(("entry", "value"), VALUES.items(), ids=VALUES)
def test_values_have_the_type_of_their_key(entry: str, value: Any) -> None:
    assert typed_values([entry]) == {entry.partition("=")[0]: value}


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("seed=016", "--config seed: 016 is 14 to YAML"),
        ("sampling={temperature: .nan}", "--config sampling.temperature: .nan is not a finite number"),
        ("engines=[vllm", "--config engines: '[vllm' is no YAML"),
        ("seed=yes", "--config seed: yes is a truth value"),
    ],
)
def test_what_yaml_takes_for_something_else_is_refused(entry: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        typed_values([entry])
    assert str(caught.value).startswith(said)
