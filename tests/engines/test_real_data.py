"""Real questions: all of them loaded, asked and graded; some of them through a real engine to the tables.

The questions are not part of the project: RLLM_SERVING_DATA is the folder with GSM8K (gsm8k*.jsonl) and MATH-500
(math500*.jsonl), whole or in part. Without it these tests are skipped.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import ROOT, run, snakemake
from helpers.needs import skip_unless_there
from rllm_serving.datasets.prompts import render
from rllm_serving.grading import sandbox
from rllm_serving.grading.grader import CODE_NOT_EXECUTED, Grader
from rllm_serving.grading.letters import gold_letter
from rllm_serving.measurement.rows import REQUESTS

CONFIG = ROOT / "tests" / "data" / "real.yaml"
DATASETS = yaml.safe_load(CONFIG.read_text())["datasets"]
SETS = ("gsm8k", "math500")

# A question in the form of HumanEval, written for this test.
CODE = {
    "prompt": 'def twice(n: int) -> int:\n    """Twice n."""\n',
    "test": "def check(candidate):\n    assert candidate(3) == 6\n",
    "entry_point": "twice",
}


def link(folder: Path) -> None:
    """Put the files that the config names into a folder; skip the test where there are none."""
    data = Path(os.environ.get("RLLM_SERVING_DATA", "/nowhere"))
    for name in SETS:
        files = sorted(data.glob(f"{name}*.jsonl"))
        if not files:
            pytest.skip(f"no {name}*.jsonl here; set RLLM_SERVING_DATA to the folder that holds it")
        (folder / DATASETS[name]["path"]).unlink(missing_ok=True)
        (folder / DATASETS[name]["path"]).symlink_to(files[0].resolve())
    lines = [json.dumps({"task_id": f"test/{number}", **CODE}) for number in range(4)]
    (folder / DATASETS["humaneval"]["path"]).write_text("\n".join(lines))


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pa.Table]:
    """All questions of both sets, as the rule `load_dataset` writes them."""
    folder = tmp_path_factory.mktemp("real")
    link(folder)
    files = {name: f"resources/datasets/{name}.parquet" for name in SETS}
    done = run(snakemake(folder, *files.values(), config=CONFIG))
    assert done.returncode == 0, done.stdout[-3000:]
    tables = {name: pq.read_table(folder / file) for name, file in files.items()}
    lines = {name: (folder / DATASETS[name]["path"]).read_text().count("\n") for name in SETS}
    assert all(lines[name] <= tables[name].num_rows <= lines[name] + 1 for name in SETS)
    return tables


def answers(name: str, table: pa.Table, texts: list[str]) -> pa.Table:
    """Requests whose answers are `texts`, one a question."""
    base = {"dataset": name, "load": "batch-4", "budget": 64, "repeat": 0, "status": "ok", "finish_reason": "stop"}
    base |= {"reasoning_text": "Let me think."}
    rows = [
        base | {"index": index, "question_id": question, "answer_text": text}
        for index, (question, text) in enumerate(zip(table["question_id"].to_pylist(), texts, strict=True))
    ]
    return pa.Table.from_pylist(rows, schema=REQUESTS)


def graded(name: str, table: pa.Table, texts: list[str]) -> list[dict[str, Any]]:
    """Grades of those answers, each with the gold."""
    with Grader({name: table}, workers=2, timeout_s=20) as grader:
        rows = grader.grade(answers(name, table, texts)).to_pylist()
    return [row | {"gold": gold} for row, gold in zip(rows, table["gold"].to_pylist(), strict=True)]


def grouped(gold: str) -> str:
    """1234.5 as people write it: 1,234.5."""
    whole, point, rest = gold.partition(".")
    return f"{int(whole):,}{point}{rest}"


def changed(gold: str) -> str | None:
    """Another answer of the same form: its last whole number is one more, or it is negative; None for words."""
    if letter := gold_letter(gold):
        return chr(ord(letter) + 1)
    numbers = list(re.finditer(r"\d+", gold))
    if not numbers:
        return None if "\\text" in gold else f"-({gold})"
    last = numbers[-1]
    return f"{gold[: last.start()]}{int(last.group()) + 1}{gold[last.end() :]}"


@pytest.mark.parametrize("name", SETS)
def test_every_question_is_asked_whole(questions: dict[str, pa.Table], name: str) -> None:
    template = ROOT / "resources" / "prompts" / f"{DATASETS[name]['prompt']}.jinja"
    for question in questions[name]["question"].to_pylist():
        prompt = render(template, question)
        assert prompt.startswith(question) and prompt.endswith("within \\boxed{}.")


FORMS: dict[str, tuple[Any, ...]] = {
    "box": ("number", "math", lambda gold: f"Adding up, we get\n\\[\n\\boxed{{{gold}}}\n\\]"),
    "box with unit": ("number", lambda gold: f"**Answer:** $\\boxed{{\\${grouped(gold)} \\text{{ a day}}}}$."),
    "box in a sentence": (
        "number",
        "math",
        lambda gold: f"First $\\boxed{{17^{{17}}}}$. No: so it is \\(\\boxed{{{gold}}}\\).",
    ),
    "phrase": ("number", lambda gold: f"Adding up.\n\nThe answer is ${grouped(gold)}."),
    "name": ("number", lambda gold: f"\\boxed{{x = {grouped(gold)}}}"),
    "text": ("number", lambda gold: f"\\boxed{{\\text{{{grouped(gold)}}}}}"),
    "computation": ("number", lambda gold: f"\\boxed{{1 \\times {gold} = {grouped(gold)}}}"),
    "thin space": ("number", lambda gold: f"$\\boxed{{{grouped(gold)}}}$".replace(",", "\\,")),
    "bold": ("number", lambda gold: f"**Answer**: **{grouped(gold)}**."),
    "formula": ("math", lambda gold: f"Adding up.\n\nThe final answer is ${gold}$."),
    "display": ("number", "math", lambda gold: f"**Final answer:**\n\\[ {gold} \\]"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", SETS)
def test_every_gold_is_a_right_answer(questions: dict[str, pa.Table], name: str, form: str) -> None:
    *kinds, say = FORMS[form]
    table = questions[name]
    if table["kind"][0].as_py() not in kinds:
        pytest.skip(f"answers of {name} are not written so")
    rows = graded(name, table, [say(gold) for gold in table["gold"].to_pylist()])
    assert [(row["gold"], row["extracted"], row["grader"]) for row in rows if not row["correct"]] == []


@pytest.mark.parametrize("name", SETS)
def test_another_answer_is_a_wrong_one(questions: dict[str, pa.Table], name: str) -> None:
    table = questions[name]
    wrong = [changed(gold) for gold in table["gold"].to_pylist()]
    rows = graded(name, table, [f"So it is $\\boxed{{{text or 'nothing'}}}$." for text in wrong])
    assert [(row["gold"], row["extracted"]) for row in rows if row["correct"]] == []
    assert {row["failure_mode"] for row in rows} == {"wrong"}


RUN = "results/runs/real/vllm/{}/bf16/baseline/1"


def test_some_questions_go_through_a_real_engine(small_study: Path, tmp_path: Path) -> None:
    """Served, graded, in points and tables; code is graded once it may be run, and no server starts for that."""
    link(small_study)
    done = run(snakemake(small_study, "real", "--resources", "gpu=1", config=CONFIG))
    assert done.returncode == 0, done.stdout[-6000:]
    assert done.stdout.count("datasets.humaneval: its answers are code, which is not run") == 1
    for model in ("small-llm", "small-rllm"):
        folder, analysis = small_study / RUN.format(model), small_study / "results/analysis/real"
        requests = pd.read_parquet(folder / "requests.parquet")
        assert (requests.status == "ok").all() and requests.groupby("dataset").size().to_dict() == {
            **dict.fromkeys(SETS, 4),
            "humaneval": 4,
        }
        summary = pd.read_parquet(analysis / "summary.parquet").query("model == @model").set_index("dataset")
        assert summary.accuracy[list(SETS)].between(0, 1).all() and (summary.output_throughput > 0).all()
        grades = pd.read_parquet(analysis / f"grades/{model}.parquet")
        code = grades.dataset == "humaneval"
        assert summary.accuracy.isna()["humaneval"] and grades.correct[code].isna().all()
        assert set(grades.grader[code]) == {CODE_NOT_EXECUTED} and grades.correct[~code].notna().all()
    table = pd.read_csv(small_study / "results/tables/real-main.csv").set_index("dataset")
    assert table.accuracy.isna().to_dict() == {"gsm8k": False, "math500": False, "humaneval": True}
    skip_unless_there(sandbox.unavailable_reason())
    started = (folder / "run.json").stat().st_mtime_ns
    running = tmp_path / "running.yaml"
    running.write_text(f"{CONFIG.read_text()}grading: {{execute_code: true}}\n")
    done = run(snakemake(small_study, "real", config=running))
    assert done.returncode == 0, done.stdout[-6000:]
    assert (folder / "run.json").stat().st_mtime_ns == started
    summary = pd.read_parquet(analysis / "summary.parquet")
    assert summary.accuracy[summary.dataset == "humaneval"].notna().all()
