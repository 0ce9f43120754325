"""Faults in what Snakemake itself reads, files, command line, place of the checkout, end the dry run with a line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from conftest import run
from helpers.checkouts import new_checkout
from helpers.studies import COMPILING, TINY, changed, dry_run, write

pytestmark = pytest.mark.slow


def test_snakemake_refuses_a_name_given_twice(tmp_path: Path) -> None:
    file = write(TINY, tmp_path / "study.yaml")
    lines = file.read_text().splitlines()
    at = lines.index("  facts:")
    file.write_text("\n".join([*lines[:at], "  easy:", *lines[at + 1 :]]))
    said = dry_run(tmp_path, file)
    assert said == f"Error in the config: {file}: line {at + 1}: the key 'easy' is given twice; names must be unique"


def test_an_experiment_may_not_be_named_like_a_rule(tmp_path: Path) -> None:
    config = changed(("experiments.grade", TINY["experiments"]["single"]))
    said = dry_run(tmp_path, write(config, tmp_path / "study.yaml"))
    assert said == "Error in the config: experiments.grade: the workflow has a rule so named; choose another"


def test_snakemake_checks_values_of_the_command_line_too(tmp_path: Path) -> None:
    said = dry_run(tmp_path, write(TINY, tmp_path / "study.yaml"), "--config", "device=tpu")
    assert said == "Error in the config: device: 'tpu' is not one of auto, cpu, cuda"


def test_a_job_of_a_cluster_does_not_find_out_its_device(tmp_path: Path) -> None:
    file = write(changed(("device", "auto")), tmp_path / "study.yaml")
    said = dry_run(tmp_path, file, "--mode", "remote")
    assert said == "Error in the config: device: 'auto' is what one machine finds; jobs on others need cpu or cuda"


def test_a_run_that_is_not_of_the_study_is_one_line(tmp_path: Path) -> None:
    target = "results/runs/single/vllm/tiny-llm/bf16/baseline/1/run.json"
    said = dry_run(tmp_path, write(TINY, tmp_path / "study.yaml"), "--", target).splitlines()[-1]
    assert said.startswith("Error: the study has no run results/runs/single/vllm/tiny-llm/bf16/baseline/1; this")
    assert "single/vllm/tiny-rllm/bf16/baseline/1" in said


# Of what Snakemake itself reads before any rule: the profile's check comes first.
UNREADABLE = {
    "unclosed bracket": (b"models: {a: [1\n", "line 2: not YAML: expected ',' or ']', but got the end"),
    "tab": (b"study: a\nmodels:\n\ta: 1\n", "line 3: not YAML: found a tab that cannot start any token"),
    "several documents": (b"study: a\n---\nstudy: b\n", "line 2: a second document"),
    "Latin-1": ("study: caf\xe9\n".encode("latin-1"), "line 1: the byte 0xe9 is no UTF-8"),
    "UTF-16": ("study: a\n".encode("utf-16"), "line 1: the text is UTF-16"),
    "no such day": (b"study: 2025-13-45\n", "line 1: study: 2025-13-45 is a date to YAML"),
    "octal": (b"study: a\nseed: 016\n", "line 2: seed: 016 is 14 to YAML"),
}


@pytest.mark.parametrize(("content", "start"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_a_file_that_is_no_yaml_is_one_line_with_its_place(tmp_path: Path, content: bytes, start: str) -> None:
    file = tmp_path / "study.yaml"
    file.write_bytes(content)
    said = dry_run(tmp_path, file)
    assert said.startswith(f"Error in the config: {file}: {start}") and "\n" not in said


def test_a_target_taken_for_a_config_file_is_one_line(tmp_path: Path) -> None:
    file = write(TINY, tmp_path / "study.yaml")
    said = dry_run(tmp_path, file, "--configfile", str(file), "single")
    assert said.startswith("Error in the config: --configfile: Snakemake takes 'single' for a config file")
    assert "\n" not in said


def test_values_of_the_command_line_have_the_type_of_their_key(tmp_path: Path) -> None:
    file = write(TINY, tmp_path / "study.yaml")
    sampling, engines = "sampling={temperature: 0, top_p: 0.5}", "engines=[tgi]"
    said = dry_run(tmp_path, file, "--config", "study=2025", sampling, engines)
    assert said == "Error in the config: engines: unknown 'tgi'; allowed: vllm, sglang"


def test_a_fault_of_a_trace_is_one_line_of_the_dry_run(tmp_path: Path) -> None:
    trace = tmp_path / "azure.csv"
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,5,6\n2023-11-16 18:15:47,5,inf\n")
    config = changed(("traces", {"real": {"source": "azure", "path": str(trace)}}))
    said = dry_run(tmp_path, write(config, tmp_path / "study.yaml"))
    assert said.startswith(f"Error in the config: traces.real.path: {trace}, row 3: GeneratedTokens is 'inf'; ")
    assert "\n" not in said


def called(folder: Path, *arguments: str) -> tuple[int, str]:
    """Exit code and both outputs of the workflow called in a folder."""
    ended = run([sys.executable, "-m", "snakemake", "--cores", "1", *arguments], cwd=folder, env=COMPILING)
    return ended.returncode, ended.stdout


@pytest.mark.parametrize("name", ["with blank", "with{brace}"])
def test_a_checkout_that_snakemake_cannot_run_scripts_in_is_told_so(tmp_path: Path, name: str) -> None:
    checkout = new_checkout(tmp_path / name)
    code, said = called(checkout, "-n")
    assert code == 1
    assert f"Error: Snakemake cannot run scripts in {checkout / 'workflow'}: its path has a blank" in said


@pytest.mark.parametrize("name", ["with blank", "with{brace}"])
def test_a_directory_that_snakemake_cannot_run_scripts_in_is_told_so(tmp_path: Path, name: str) -> None:
    checkout = new_checkout(tmp_path / "checkout")
    (tmp_path / name).mkdir()
    code, said = called(checkout, "-n", "--directory", str(tmp_path / name))
    line = f"Error: Snakemake cannot run scripts in {tmp_path / name}: its path has a blank or a brace; give another"
    assert code == 1 and line in said


def test_two_studies_have_a_folder_each(tmp_path: Path) -> None:
    """One after the other in the same folder is refused; in folders of their own both go on, whatever their quotes."""
    checkout, other = new_checkout(tmp_path / "it's"), tmp_path / 'a-"study"'
    other.mkdir()
    small, target = write(changed(("study", "other")), checkout / "other.yaml"), "resources/datasets/easy.parquet"
    (checkout / "results").mkdir()
    (checkout / "results" / "study.json").write_text('{"study": "tiny"}')
    assert called(checkout, "-n")[0] == 0
    code, said = called(checkout, "-n", "--configfile", str(small))
    assert code == 1
    assert "Error in the config: study: 'other' is asked for, results/ holds the study 'tiny'" in said
    assert called(checkout, target, "--configfile", str(small))[0] == 0  # no result
    assert called(checkout, "-n", "--directory", str(other), "--configfile", str(small))[0] == 0
    # The default config, too, which is not in that folder.
    code, said = called(checkout, "--directory", str(other), target)
    assert code == 0 and f"The config is {checkout / 'config' / 'config.yaml'}: " in said, said
    assert (other / target).exists()


def test_a_folder_that_a_killed_call_left_locked_says_what_to_do(tmp_path: Path) -> None:
    checkout = new_checkout(tmp_path / "checkout")
    locks = checkout / ".snakemake" / "locks"
    locks.mkdir(parents=True)
    (locks / "0.output.lock").write_text("resources/datasets/easy.parquet\n")
    code, said = called(checkout, "resources/datasets/easy.parquet")
    assert code == 1 and "the last one was killed" in said and "Call `snakemake --unlock` once" in said
    assert called(checkout, "--unlock")[0] == 0
    assert called(checkout, "resources/datasets/easy.parquet")[0] == 0
