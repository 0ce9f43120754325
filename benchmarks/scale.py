"""How long the largest studies take to plan and to analyse: see README.md.

uv run python benchmarks/scale.py [--json] [--only study|analysis] [--folder FOLDER]
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import million
import yaml
from rllm_serving.study.config_options import Margins

ROOT = Path(__file__).resolve().parents[1]

DRY_S, ANALYSIS_S, MEMORY_GB = 10.0, 60.0, 8.0
# 10 experiments x 25 models x 2 engines x 6 servers (4 setups, 2 more weight formats) = 3,000 runs.
EXPERIMENTS, MODELS = 10, 25
SETUPS: dict[str, dict[str, Any]] = {
    "kv-fp8": {"kv_cache_dtype": "fp8-e4m3"},
    "no-prefix-cache": {"prefix_cache": False},
    "shortest-prompt": {"scheduling": "shortest-prompt"},
}
FORMATS = {"w8": "int8", "w4": "gptq-int4"}
DATASETS = 4


@dataclass(frozen=True)
class Row:
    """What one command took: CPU seconds (user and system) and wall seconds, peak memory, and what is allowed.

    cpu_s is None where nothing could be measured; note says why.
    """

    what: str
    cpu_s: float | None
    wall_s: float | None = None
    peak_gb: float | None = None
    target_s: float | None = None
    note: str = ""


def timed(command: Sequence[str], folder: Path) -> tuple[float, float, float, str]:
    """CPU seconds, wall seconds, peak memory in GB and output of a command; RuntimeError when it fails.

    Its own children count too, as far as it waited for them. Snakemake's modules may be compiled once for all calls;
    linear algebra has one thread, as in a job of one thread.
    """
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "", "OPENBLAS_NUM_THREADS": "1"}
        process = subprocess.Popen(command, cwd=folder, stdout=said, stderr=subprocess.STDOUT, env=environment)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall_s = time.perf_counter() - start
        said.seek(0)
        text = said.read()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{text[-3000:]}")
    return used.ru_utime + used.ru_stime, wall_s, used.ru_maxrss / 1e6, text


def study() -> dict[str, Any]:
    """A config of 3,000 runs on GPUs: models of a hub that is never asked, question files of this machine."""
    models: dict[str, Any] = {}
    for number in range(MODELS):
        role = "rllm" if number % 2 else "llm"
        parser = {"reasoning_parser": "qwen3"} if number % 2 else {}
        where = {"source": "hub", "id": f"some/model-{number}", "revision": "main"}
        models[f"model-{number:02}"] = {**where, "role": role, "pair": f"pair-{number // 2:02}", **parser}
    questions = {"source": "path", "format": "gsm8k", "path": "questions.jsonl", "prompt": "number"}
    experiment = {
        "setups": ["baseline", *SETUPS],
        "quantizations": ["bf16", *FORMATS],
        "repeats": 3,
        "budgets": [512, 1024, 2048, 4096],
        "loads": [{"type": "batch", "size": 16}, {"type": "batch", "size": 64}, {"type": "closed", "size": 32}],
    }
    return {
        "study": "three-thousand",
        "device": "cuda",
        "models": models,
        "datasets": {f"set-{number}": questions for number in range(DATASETS)},
        "quantizations": {name: {"method": method, "dataset": "set-0"} for name, method in FORMATS.items()},
        "setups": SETUPS,
        "experiments": {f"question-{number:02}": experiment for number in range(EXPERIMENTS)},
    }


def checkout(folder: Path, config: Path | None) -> Path:
    """A copy of the workflow as a clone has it, with a config; None: that of `study`. Nothing is done in it yet."""
    for name in ("workflow", "profiles", "resources/prompts"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(ROOT / "Snakefile", folder)
    (folder / "config").mkdir()
    if config is None:
        (folder / "config" / "config.yaml").write_text(yaml.safe_dump(study(), sort_keys=False))
    else:
        shutil.copy2(config, folder / "config" / "config.yaml")
    (folder / "questions.jsonl").write_text('{"question": "1 + 1?", "answer": "#### 2"}\n')
    return folder


SNAKEMAKE = [sys.executable, "-m", "snakemake", "--cores", "2", "--resources", "gpu=8"]


def finish(folder: Path) -> int:
    """Make a checkout look as if its study had run: what Snakemake records of its jobs, and empty outputs.

    Returns the number of outputs. `--touch` records every job without running it; where an output is already there it
    waits a tenth of a second for each job, so they are written afterwards, all with one time stamp.
    """
    many = ["--cores", "100000", "--resources", "gpu=100000"]
    timed([*SNAKEMAKE[:3], *many, "--touch", "--quiet", "all"], folder)
    records = folder / ".snakemake" / "metadata"
    now = time.time()
    outputs = 0
    for record in (path for path in records.rglob("*") if path.is_file()):
        # A record's name is its output's, in base 64; long ones are split over folders that begin with "@".
        code = "".join(part.removeprefix("@") for part in record.relative_to(records).parts)
        output = folder / base64.urlsafe_b64decode(code).decode()
        output.parent.mkdir(parents=True, exist_ok=True)
        output.touch()
        os.utime(output, (now, now))
        outputs += 1
    return outputs


def planned(title: str, config: Path | None, scratch: Path) -> list[Row]:
    """Rows of a dry run of a study of which nothing is done, and of a call when all of it is done."""
    folder = checkout(scratch / title.replace(" ", "-"), config)
    cpu_s, wall_s, peak_gb, said = timed([*SNAKEMAKE, "-n", "--quiet", "rules"], folder)
    jobs = next((int(line.split()[1]) for line in said.splitlines() if line.startswith("total")), 0)
    rows = [Row(f"{title}: dry run", cpu_s, wall_s, peak_gb, DRY_S, f"{jobs:,} jobs")]
    outputs = finish(folder)
    cpu_s, wall_s, peak_gb, said = timed(SNAKEMAKE, folder)
    if "Nothing to be done" not in said:
        raise RuntimeError(f"{title}: something is left to be done:\n{said[:3000]}")
    return [*rows, Row(f"{title}: nothing to be done", cpu_s, wall_s, peak_gb, DRY_S, f"{outputs:,} outputs")]


class Outputs(dict[str, str]):
    """Files by their names, as an item and as an attribute, as Snakemake gives them to a script."""

    __getattr__ = dict.__getitem__


def job(script: str, folder: Path) -> None:
    """Run a script of workflow/scripts as Snakemake would, on the runs that `million.write` made in `folder`."""
    runs = ["mine"] if script == "compute_metrics" else ["other", "mine"]
    names = {"requests": "requests.parquet", "server": "server.parquet", "record": "run.json"}
    given: dict[str, Any] = {key: [str(folder / run / name) for run in runs] for key, name in names.items()}
    summaries = ("points", "starts", "summary", "difficulty", "domain")
    made = summaries if script == "compute_metrics" else ("comparison", "interaction", "decomposition")
    asked = SimpleNamespace(
        input=SimpleNamespace(**given, grades=[str(folder / "grades.parquet")], starts=str(folder / "starts.parquet")),
        output=Outputs({name: str(folder / f"{name}.parquet") for name in made}),
        params=SimpleNamespace(
            servers=runs,
            slo={"ttfvt_s": 2.0, "tpot_ms": 50.0},
            ttfvt_horizon_s=None,
            compared=[("other", ["mine"])],
            pairs={},
            margins=Margins().model_dump(),
        ),
        log=[str(folder / f"{script}.log")],
    )
    runpy.run_path(str(ROOT / "workflow" / "scripts" / f"{script}.py"), init_globals={"snakemake": asked})


def analysed(points: int, requests: int, scratch: Path) -> list[Row]:
    """Rows of the rules metrics and compare on runs of `points` points of `requests` requests."""
    folder = scratch / f"{points}x{requests}"
    # In a process of its own, so that its memory is given back.
    timed([sys.executable, str(Path(million.__file__)), str(folder), str(points), str(requests)], ROOT)
    rows = []
    for script in ("compute_metrics", "compare_runs"):
        command = [sys.executable, str(Path(__file__)), "--job", script, "--folder", str(folder)]
        cpu_s, wall_s, peak_gb, _ = timed(command, ROOT)
        what = f"{script}: {points:,} points of {requests:,} requests"
        rows.append(Row(what, cpu_s, wall_s, peak_gb, ANALYSIS_S, f"memory {MEMORY_GB:g} GB allowed"))
    return rows


def table(rows: Sequence[Row]) -> str:
    """The rows as text."""
    cells: list[tuple[str, ...]] = [("what", "CPU s", "wall s", "peak GB", "target s", "note")]
    for row in rows:
        numbers = (row.cpu_s, row.wall_s, row.peak_gb, row.target_s)
        cells.append((row.what, *("" if number is None else f"{number:.1f}" for number in numbers), row.note))
    widths = [max(len(line[k]) for line in cells) for k in range(6)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="the rows as one line of JSON at the end")
    parser.add_argument("--only", choices=("study", "analysis"), help="one half alone")
    parser.add_argument("--folder", type=Path, help="where to work, and to leave what was made; else a temporary one")
    parser.add_argument("--job", choices=("compute_metrics", "compare_runs"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        job(options.job, options.folder)
        return
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as temporary:
        scratch = options.folder or Path(temporary)
        if options.only != "analysis":
            rows += planned("3,000 runs", None, scratch)
            paper = ROOT / "config" / "paper.yaml"
            if paper.exists():
                rows += planned("paper.yaml", paper, scratch)
            else:
                rows.append(Row("paper.yaml", None, note="config/paper.yaml is not there"))
        if options.only != "study":
            for points, requests in ((1000, 1000), (16, 62500)):
                rows += analysed(points, requests, scratch)
    print(table(rows))
    if options.json:
        print(json.dumps([asdict(row) for row in rows]))


if __name__ == "__main__":
    main()
