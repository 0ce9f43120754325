"""Every server's command line, of every config and of tests/gpu, read by the locked engine's parser; nothing starts.

The environments are those for CPU. Their engines have the versions of the CUDA locks, and so the same flags. Read is
all that both engines do before they look at weights or a device: vLLM's whole configuration, SGLang's resolved and
checked arguments. What only a GPU decides is out of reach: attention backends, kernels, whether memory suffices.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, run
from helpers.run_harness import RUN
from helpers.studies import load
from rllm_serving import environments
from rllm_serving.measurement.paths import RunPaths
from rllm_serving.measurement.run import Measurement
from rllm_serving.serving.engines import ENGINES, Options
from rllm_serving.study.config import complete_config
from rllm_serving.study.design import Run
from rllm_serving.study.paths import config_paths
from snakemake.utils import update_config
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel

SERVED = ("vllm", "sglang")
DEVICES = ("cpu", "cuda")
# Any number of GPUs up to eight divides its heads, and every context fits.
CHECKPOINT: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "torch_dtype": "bfloat16",
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 32,
    "vocab_size": 1024,
    "max_position_embeddings": 2**20,
}
HEAD = {**CHECKPOINT, "architectures": ["LlamaForCausalLMEagle3"], "model_type": "llama", "num_hidden_layers": 1}
# What is wrong -> what is put on a good line, and what the complaint must name.
WRONG: dict[str, dict[str, tuple[list[str], dict[str, str], str]]] = {
    "vllm": {
        "a flag that does not exist": (["--no-such-flag"], {}, "--no-such-flag"),
        "a flag cut short": (["--max-num-s", "8"], {}, "--max-num-s"),
        "a value that is no choice": (["--kv-cache-dtype", "fp9"], {}, "--kv-cache-dtype"),
        "a policy that does not exist": (["--scheduling-policy", "lpm"], {}, "--scheduling-policy"),
        "an unknown reasoning parser": (["--reasoning-parser", "nobody"], {}, "nobody"),
        "an unknown way to speculate": (
            ["--speculative-config", '{"method": "guess", "num_speculative_tokens": 3}'],
            {},
            "method",
        ),
        "an unknown key of speculation": (
            ["--speculative-config", '{"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup": 4}'],
            {},
            "prompt_lookup",
        ),
        "an unknown variable": ([], {"VLLM_NO_SUCH": "1"}, "VLLM_NO_SUCH"),
    },
    "sglang": {
        "a flag that does not exist": (["--no-such-flag"], {}, "--no-such-flag"),
        "a flag cut short": (["--max-running", "8"], {}, "--max-running"),
        "a value that is no choice": (["--kv-cache-dtype", "fp9"], {}, "--kv-cache-dtype"),
        "a policy that does not exist": (["--schedule-policy", "priorities"], {}, "--schedule-policy"),
        "a policy without priorities": (["--schedule-policy", "lpm", "--enable-priority-scheduling"], {}, "lpm"),
        "an unknown reasoning parser": (["--reasoning-parser", "nobody"], {}, "--reasoning-parser"),
        "an unknown way to speculate": (["--speculative-algorithm", "GUESS"], {}, "GUESS"),
        "an unknown weight format": (["--quantization", "fp9"], {}, "--quantization"),
        "an unknown format of torchao": (["--torchao-config", "int9wo"], {}, "int9wo"),
        "an unknown variable": ([], {"SGLANG_NO_SUCH": "1"}, "SGLANG_NO_SUCH"),
    },
}


@dataclass(frozen=True, eq=False)
class Line:
    """A server's command line: who asks for it, and what is run where."""

    asked_by: tuple[str, ...]
    device: str
    command: list[str]
    environment: dict[str, str]


@dataclass(frozen=True)
class Reading:
    """What an engine said of all lines: None, or what is wrong with one."""

    lines: Mapping[Line, str | None]
    wrong: Mapping[str, str | None]

    def complaints(self) -> list[str]:
        """One text for each that is wrong."""
        return [f"{' and '.join(line.asked_by)}: {answer}" for line, answer in self.lines.items() if answer is not None]


def configs() -> dict[str, dict[str, Any]]:
    """Every study in config/, and that of tests/gpu, by its file's name.

    A file that is no whole study is laid over the default one.
    """
    paths = [*sorted((ROOT / "config").glob("*.yaml")), ROOT / "tests" / "data" / "gpu.yaml"]
    files = {file.name: yaml.safe_load(file.read_text()) for file in paths}
    configs = {}
    for name, content in files.items():
        config = {} if "study" in content else copy.deepcopy(files["config.yaml"])
        update_config(config, content)
        configs[name] = config
    return configs


def runs(folder: Path) -> Iterator[tuple[str, str, Run]]:
    """(who asks, device, run) of every run of every config, whatever it names lying in `folder`."""
    for name, config in configs().items():
        with contextlib.chdir(folder):
            for key, text in config_paths(complete_config(config)):
                path = Path(text).expanduser()
                if key.startswith(("models", "quantizations")):
                    checkpoint(path, CHECKPOINT)
                else:
                    path.mkdir(parents=True, exist_ok=True)
            for device in DEVICES:
                # What an engine can't do on this device is no command line, whatever the config makes of it.
                study = load({**config, "device": device, "on_unsupported": "mark"})
                for planned in study.runs.values():
                    server = f"model {planned.model}, setup {planned.setup}, quantization {planned.quantization}"
                    yield f"{name} on {device}, experiment {planned.experiment}, {server}", device, planned


def single_options(engine: str) -> Iterator[tuple[str, str, Run]]:
    """The same for every value of every option that an engine has, so that those no config uses are right too."""
    refused, known = ENGINES[engine].refused, ENGINES[engine].values
    fields = set(Options.__dataclass_fields__)
    values: list[tuple[str, Any]] = [(option, value) for option, words in known.items() for value in words]
    values += [("prefix_cache", False), ("kv_cache_tokens", 8192), ("tensor_parallel", 8), ("trust_remote_code", True)]
    for device in DEVICES:
        for option, value in values:
            if (device, option, value) in refused:
                continue
            drafted = value in ("draft", "eagle3")
            options = replace(RUN.options, **({option: value} if option in fields else {}))
            planned = replace(RUN, engine=engine, options=replace(options, draft_model=str(value) if drafted else None))
            if option not in fields:
                planned = replace(planned, **{{"quantization": "method"}.get(option, option): value})
            yield f"{engine} on {device}, option {option} {value}", device, planned


def checkpoint(folder: Path, config: Mapping[str, Any]) -> Path:
    """A folder that tells an engine all that its parser asks of a model: no weights, and a tokenizer that thinks."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer = Tokenizer(WordLevel({"?": 0}, unk_token="?"))
    tokenizer.add_tokens([AddedToken(word, special=False) for word in ("<think>", "</think>")])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    return folder


def lines(engine: str, python: Path, folder: Path) -> list[Line]:
    """The distinct command lines of one engine, made as a run makes them."""
    records = {}
    for name, config in {"model": CHECKPOINT, "draft": CHECKPOINT, "eagle3": HEAD}.items():
        records[name] = folder / f"{name}.json"
        records[name].write_text(json.dumps({"path": str(checkpoint(folder / name, config))}))
    built, nowhere = folder / "environment.json", folder / "nowhere"
    built.write_text("{}")
    paths = RunPaths(
        python,
        built,
        records["model"],
        None,
        None,
        {},
        {},
        nowhere,
        server=nowhere,
        record=nowhere,
        server_log=nowhere,
        forced=nowhere,
    )
    asking: dict[str, list[str]] = {}
    for who, device, planned in [*runs(folder), *single_options(engine)]:
        if planned.engine == engine:
            draft = records["eagle3" if planned.options.speculative == "eagle3" else "draft"]
            measurement = Measurement(
                planned, replace(paths, draft=draft if planned.options.draft_model else None), device
            )
            started = measurement.server_config(None)
            command = ENGINES[engine].command(started, 4711)
            line = json.dumps([device, command, ENGINES[engine].environment(started)])
            asking.setdefault(line, []).append(who)
    return [Line(tuple(who), *json.loads(line)) for line, who in asking.items()]


@pytest.fixture(scope="module")
def readings(engine_environments: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reading]:
    """What each engine said, in one process an engine: importing an engine takes longer than reading all lines."""
    found = {}
    for engine in SERVED:
        folder = tmp_path_factory.mktemp(engine)
        python = environments.python(engine_environments[engine])
        right = lines(engine, python, folder)
        good = next(line for line in right if line.device == "cuda")
        broken = {
            name: replace(good, command=[*good.command, *words], environment={**good.environment, **variables})
            for name, (words, variables, _) in WRONG[engine].items()
        }
        asked = [
            {"command": line.command, "environment": line.environment, "device": line.device}
            for line in (*right, *broken.values())
        ]
        (folder / "asked").write_text(json.dumps(asked))
        program = Path(__file__).with_name("parsing.py")
        # What the CPU build needs to be imported at all, and no hub.
        surroundings = os.environ | {"SGLANG_USE_CPU_ENGINE": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        done = run(
            [str(word) for word in (python, program, engine, folder / "asked", folder / "answers")],
            cwd=folder,
            env=surroundings,
        )
        assert done.returncode == 0, done.stdout[-6000:]
        answers = json.loads((folder / "answers").read_text())
        of_broken = dict(zip(broken, answers[len(right) :], strict=True))
        found[engine] = Reading(dict(zip(right, answers, strict=False)), of_broken)
    return found


@pytest.mark.parametrize("engine", SERVED)
def test_the_engine_reads_every_command_line(readings: dict[str, Reading], engine: str) -> None:
    assert "\n".join(readings[engine].complaints()) == ""


@pytest.mark.parametrize("engine", SERVED)
def test_the_parser_has_the_version_of_the_cuda_lock(engine_environments: dict[str, Path], engine: str) -> None:
    lock = ROOT / "workflow" / "envs" / f"{engine}-cuda.txt"
    locked = re.search(rf"^{engine}==(\S+)", lock.read_text(), re.MULTILINE)
    assert locked and environments.versions(engine_environments[engine])["engine_version"] == locked[1]


@pytest.mark.parametrize("engine", SERVED)
def test_lines_of_every_config_and_device_were_read(readings: dict[str, Reading], engine: str) -> None:
    asked = {who.split(",")[0] for line in readings[engine].lines for who in line.asked_by}
    studies = [name for name, config in configs().items() if engine in config.get("engines", SERVED)]
    assert {f"{name} on {device}" for name in studies for device in DEVICES} <= asked


@pytest.mark.parametrize(("engine", "name"), [(engine, name) for engine in SERVED for name in WRONG[engine]])
def test_a_wrong_line_is_told_with_what_is_wrong(readings: dict[str, Reading], engine: str, name: str) -> None:
    _, _, complaint = WRONG[engine][name]
    assert complaint in (readings[engine].wrong[name] or "")


def test_a_complaint_names_the_config_the_experiment_and_the_setup() -> None:
    line = Line(("paper.yaml on cuda, experiment e, model m, setup s, quantization q",), "cuda", [], {})
    reading = Reading({line: "no such flag: --gone", replace(line, device="cpu"): None}, {})
    assert reading.complaints() == [f"{line.asked_by[0]}: no such flag: --gone"]
