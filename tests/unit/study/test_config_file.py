"""What YAML hides in a config, or turns into something else, is one line with the file and the line in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import ROOT
from rllm_serving.study.config_errors import ConfigError
from rllm_serving.study.config_file import check_file


def said(file: Path, content: str | bytes) -> str:
    """What is said of a file with that content, without the file's name."""
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ConfigError) as caught:
        check_file(file)
    line = str(caught.value)
    assert line.startswith(f"{file}: ") and "\n" not in line and len(line) < len(str(file)) + 260
    return line.removeprefix(f"{file}: ")


# Content of a file, and how what is said of it begins.
VALUES = {
    "sampling: {top_p: 1,\n  temperature: .nan}": "line 2: sampling.temperature: .nan is not a finite number",
    "measurement:\n  request_timeout_s: .inf": "line 2: measurement.request_timeout_s: .inf is not a finite number",
    "analysis: {margins: {latency: -.INF}}": "line 1: analysis.margins.latency: -.INF is not a finite number",
    "seed: 016": "line 1: seed: 016 is 14 to YAML, an octal number; write it without the 0",
    "experiments:\n  a:\n    budgets: [16, 0256]": "line 3: experiments.a.budgets.1: 0256 is 174 to YAML",
    "measurement: {request_timeout_s: 1:30}": "line 1: measurement.request_timeout_s: 1:30 is 90 to YAML",
    "sampling: {temperature: 1:30.5}": "line 1: sampling.temperature: 1:30.5 is 90.5 to YAML, a number to base 60",
    "study: 2025-10-18": "line 1: study: 2025-10-18 is a date to YAML; put it in quotes",
    "study: 2025-13-45": "line 1: study: 2025-13-45 is a date to YAML",
    "study: on": "line 1: study: on is a truth value to YAML; put it in quotes",
    "experiments: {a: {datasets: [no]}}": "line 1: experiments.a.datasets.0: no is a truth value to YAML",
    "experiments: {a: {engines: yes}}": "line 1: experiments.a.engines: yes is a truth value to YAML",
    "device: off": "line 1: device: off is a truth value to YAML",
    "sampling: {top_p: NaN}": "line 1: sampling.top_p: NaN is not a finite number",
    "seed: yes": "line 1: seed: yes is a truth value to YAML",
    "experiments: {a: {slo: {ttfvt_s: 2e0}}}": "line 1: experiments.a.slo.ttfvt_s: 2e0 is text to YAML; write it as 2",
    "experiments: {a: {repeats: 08}}": "line 1: experiments.a.repeats: 08 is text to YAML; write it as 8",
    '{"sampling": {"top_p": NaN}}': "NaN is not a finite number",
    "study: 2025": "line 1: study: 2025 is a number to YAML; put it in quotes",
    "models: {a: {revision: 1234567}}": "line 1: models.a.revision: 1234567 is a number to YAML",
    "models: {a: {revision: 0123456}}": "line 1: models.a.revision: 0123456 is 42798 to YAML, an octal number",
    "models:\n  no: {source: micro}": "line 2: the key no is a truth value to YAML; put it in quotes: 'no'",
    "datasets: {7: {}}": "line 1: the key 7 is a number to YAML; put it in quotes: '7'",
    "datasets: {2025-10-18: {}}": "line 1: the key 2025-10-18 is a date to YAML",
    "datasets: {~: {}}": "line 1: the key ~ is nothing to YAML",
    "? [a, b]\n: 1": "line 1: a key that is no text",
    "seed: " + "9" * 5000: "line 1: seed: a number of 5000 characters is too long",
    "a: &a\n  b: *a": "line 1: a.b: is an alias of what it stands in",
    "defaults: &d {seed: 016}": "line 1: defaults.seed: 016 is 14 to YAML",
}


@pytest.mark.parametrize(("content", "start"), VALUES.items(), ids=[text[:40] for text in VALUES])
def test_what_yaml_turns_into_something_else_is_refused_with_its_line(tmp_path: Path, content: str, start: str) -> None:
    assert said(tmp_path / "study.yaml", content).startswith(start)


TEXTS: dict[str, tuple[str | bytes, str]] = {
    "tab": ("study: a\nsampling:\n\ttop_p: 1\n", "line 3: not YAML: found a tab that cannot start any token"),
    "several documents": ("study: a\n---\nstudy: b\n", "line 2: a second document; one file is one study"),
    "Latin-1": ("study: a\n# caf\xe9\n".encode("latin-1"), "line 2: the byte 0xe9 is no UTF-8; save it as UTF-8"),
    "UTF-16": ("study: a\n".encode("utf-16"), "line 1: the text is UTF-16; save it as UTF-8"),
    "UTF-16 without a mark": (
        "study: a\n".encode("utf-16-le"),
        "line 1: not YAML: the character '\\x00' is not allowed",
    ),
    "unclosed bracket": ("models:\n  a: [1,\n    2\nseed: 1\n", "line 4: not YAML: "),
    "unclosed bracket at the end": (
        "models: {a: [1\n",
        "line 2: not YAML: expected ',' or ']', but got the end (while parsing a flow sequence from line 1 on)",
    ),
    "unclosed quote": ("study: 'a\nseed: 1\n", "line 3: not YAML: "),
    "no alias": ("study: *a\n", "line 1: not YAML: found undefined alias 'a'"),
    "empty": ("", "the file is empty"),
    "comments alone": ("# nothing\n", "the file is empty"),
    "list": ("# a list\n- a\n", "line 2: no mapping (key: value)"),
    "nested without end": ("a: " + "[" * 5000 + "]" * 5000, "is nested too deeply"),
}


@pytest.mark.parametrize(("content", "start"), TEXTS.values(), ids=TEXTS.keys())
def test_what_is_no_yaml_mapping_is_one_line(tmp_path: Path, content: str | bytes, start: str) -> None:
    assert said(tmp_path / "study.yaml", content).startswith(start)


def test_a_repeated_key_is_found_at_any_depth(tmp_path: Path) -> None:
    content = "models:\n  a: {source: micro}\n  b: {source: micro, role: llm,\n      source: hub}\n"
    assert said(tmp_path / "study.yaml", content) == "line 4: the key 'source' is given twice; names must be unique"


def test_a_file_that_is_not_there_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(ConfigError, match=rf"^{path}: cannot be read \(.*\); give an existing file$"):
            check_file(path)


GOOD = [
    "a: &base {source: micro, role: llm}\nb:\n  <<: *base\n  role: rllm\nc: *base\n",
    "grading: {execute_code: no}\nserving: {prefix_cache: off}\nmodels: {a: {thinking: yes}}\n",
    "serving: {kv_cache_tokens: null}\nenvironments: {torch_cpu_wheels: ~}\n",
    "study: '2025'\nmodels: {'no': {revision: \"016\"}}\nseed: 0\nsampling: {temperature: 0.0, top_p: 1}\n",
    "study: a # one\n...\n",
    "\ufeffstudy: a\r\nseed: 1\r\n",
    json.dumps({"study": "a", "sampling": {"top_p": 1}}, indent="\t"),
    '{"study": "a", "sampling": {"top_p": 1e-3}}',
]


@pytest.mark.parametrize("content", GOOD)
def test_what_means_what_it_says_is_left(tmp_path: Path, content: str) -> None:
    (tmp_path / "study.yaml").write_bytes(content.encode())
    check_file(tmp_path / "study.yaml")


@pytest.mark.parametrize("file", sorted((ROOT / "config").glob("*.yaml")), ids=lambda file: file.name)
def test_the_files_that_come_with_the_project_are_right(file: Path) -> None:
    check_file(file)
