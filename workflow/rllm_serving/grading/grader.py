"""Grades of runs' requests: numbers and math by math-verify, multiple choice by the exact letter, code by its tests.

What counts as an answer is decided in `extraction`, what the texts of gold and answer tell in `comparison`. Of what is
left, math-verify reads "50%" as equal to 50 and to 0.5, takes 1/2 for 0.5, and lets the order of a tuple count, but not
that of a set.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import pyarrow as pa

from ..errors import UserError
from ..schemas import SERVER_KEYS
from . import sandbox, sandbox_worker
from .extraction import extract
from .letters import gold_letter

GRADE_SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string(), nullable=False) for name in SERVER_KEYS),
        pa.field("dataset", pa.string(), nullable=False),
        pa.field("load", pa.string(), nullable=False),
        pa.field("budget", pa.int32(), nullable=False),
        pa.field("repeat", pa.int32(), nullable=False),
        pa.field("index", pa.int32(), nullable=False),
        pa.field("question_id", pa.string(), nullable=False),
        pa.field("extracted", pa.string()),
        pa.field("correct", pa.bool_()),
        pa.field("grader", pa.string(), nullable=False),
        pa.field("failure_mode", pa.string()),
    ]
)
_KEYS = GRADE_SCHEMA.names[: GRADE_SCHEMA.get_field_index("extracted")]
GRADED = GRADE_SCHEMA.names[len(_KEYS) :]
"""Columns that say how a request was graded."""
READ = [*_KEYS, "forced_output_tokens", "status", "finish_reason", "reasoning_text", "answer_text"]
"""Columns of requests.parquet that grading reads."""
_WORKER = Path(__file__).with_name("math_worker.py")
_LIBRARY = Path(__file__).parents[2]

NOT_COMPARABLE = "math-verify-not-comparable"
CODE_NOT_EXECUTED = "not graded: grading.execute_code is off"
FORCED_LENGTH = "not graded: the answer was made to have a length"

Pair = tuple[str, str]
Program = tuple[str, str, str]
"""Question, code of the answer, tests, as `sandbox.check` takes them."""


class GradingError(UserError):
    """The requests cannot be graded: a question without a gold, or a grader that does not start."""


class Grade(NamedTuple):
    """Whether the answer is right (None: that was not asked), and what decided that, see `grade`."""

    correct: bool | None
    grader: str


class Grader:
    """Grades the requests of any number of runs; equal answers to a question are graded once.

    golds: a dataset's name -> its questions (QUESTION_SCHEMA); workers: processes, which live until `close`; timeout_s:
    seconds of CPU time for one answer; execute_code: whether answers that are code are run.
    """

    def __init__(
        self, golds: Mapping[str, pa.Table], workers: int = 1, timeout_s: float = 10.0, execute_code: bool = False
    ) -> None:
        self._questions = {
            (dataset, row["question_id"]): row for dataset, table in golds.items() for row in table.to_pylist()
        }
        self._workers = [_Worker(timeout_s) for _ in range(workers)]
        self._timeout_s, self._execute_code = timeout_s, execute_code
        self._verdicts: dict[Any, Grade] = {}

    def __enter__(self) -> Grader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.close()

    def grade(self, requests: pa.Table) -> pa.Table:
        """One row of GRADE_SCHEMA a request, in the order of `requests`, which has the columns READ.

        grader: "letter" for choices, and for mathematics whose gold is a letter; "tests" for code, "tests-missing"
        where it lacks the function that was asked for, "tests-timeout" or "tests-crash" where its process was ended or
        died; else "math-verify" (also where there was nothing to compare), "math-verify-not-comparable", "-timeout" or
        "-crash". correct and failure_mode are null, and `grader` says why, where nothing was graded: answers that were
        made to have a length, and code without `execute_code`.
        failure_mode says why an answer is not correct, and is null where it is:
        failed (status is not "ok"; its text is never graded), truncated-thinking (the budget ended before any
        answer), truncated-answer (the budget ended within the answer and what is there is not right), no-answer
        (nothing that counts as an answer, code without the function, or a comparison that did not end), not-comparable
        (math-verify's parser cannot read the answer, or only in part), wrong.
        Raises GradingError if a question has no gold, or math-verify or the sandbox does not start.
        """
        rows = requests.select(READ).to_pylist()
        for row in rows:
            row |= self._asked(row)
        answered = [row for row in rows if row["extracted"] is not None and row["ungraded"] is None]
        pairs = {(row["gold"], row["extracted"]) for row in answered if row["kind"] in ("number", "math")}
        programs = {_program(row) for row in answered if row["kind"] == "code"}
        known = self._verdicts.keys()
        self._verdicts |= self.compare(sorted(pairs - known))
        self._verdicts |= execute(sorted(programs - known), len(self._workers), self._timeout_s)
        return pa.Table.from_pylist([_grade_row(row, self._verdicts) for row in rows], schema=GRADE_SCHEMA)

    def compare(self, pairs: Iterable[Pair]) -> dict[Pair, Grade]:
        """A verdict for each (gold, answer) pair: math-verify in the workers, each pair with a limit."""
        waiting = deque(pairs)

        def work(worker: _Worker) -> dict[Pair, Grade]:
            done: dict[Pair, Grade] = {}
            while True:
                try:
                    pair = waiting.popleft()
                except IndexError:
                    return done
                done[pair] = worker.compare(pair)

        used = self._workers[: len(waiting)]
        with ThreadPoolExecutor(max(len(used), 1)) as pool:
            parts = [pool.submit(work, worker) for worker in used]
        return {pair: verdict for part in parts for pair, verdict in part.result().items()}

    def _asked(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The question of a request, what was found as its answer, and why that is not graded."""
        question = self._questions.get((row["dataset"], row["question_id"]))
        if question is None:
            raise GradingError(f"datasets.{row['dataset']}: no gold for question {row['question_id']!r}")
        found = {name: question[name] for name in ("question", "gold", "kind")}
        if found["kind"] == "math" and (wanted := gold_letter(found["gold"])):
            found |= {"kind": "choice", "gold": wanted}
        entry_point = sandbox_worker.entry_point(found["gold"]) if found["kind"] == "code" else None
        text, cut_off = row["answer_text"] or "", row["finish_reason"] == "length"
        kinds = dict.fromkeys(
            (found["kind"], question["kind"])
        )  # for a letter, what else was said shows that it is wrong
        answers = (extract(text, kind, cut_off, entry_point) for kind in kinds if row["status"] == "ok")
        found["extracted"] = next(filter(None, answers), None)
        found["ungraded"] = FORCED_LENGTH if row["forced_output_tokens"] is not None else None
        if question["kind"] == "code" and not self._execute_code:
            found["ungraded"] = CODE_NOT_EXECUTED
        return found


def _program(row: Mapping[str, Any]) -> Program:
    return row["question"], row["extracted"], row["gold"]


def _grade_row(row: Mapping[str, Any], verdicts: Mapping[Any, Grade]) -> dict[str, Any]:
    graded = {name: row[name] for name in (*_KEYS, "extracted")}
    if row["ungraded"] is not None:
        return graded | {"correct": None, "grader": row["ungraded"], "failure_mode": None}
    if row["kind"] == "choice":
        verdict = Grade(row["extracted"] == row["gold"], "letter")
    elif row["kind"] == "code":
        verdict = verdicts.get(_program(row), Grade(False, "tests"))
    else:
        verdict = verdicts.get((row["gold"], row["extracted"]), Grade(False, "math-verify"))
    return graded | verdict._asdict() | {"failure_mode": _failure_mode(row, verdict)}


def _failure_mode(row: Mapping[str, Any], verdict: Grade) -> str | None:
    if row["status"] != "ok":
        return "failed"
    if verdict.correct:
        return None
    if row["finish_reason"] == "length":
        thinking = row["reasoning_text"] and not (row["answer_text"] or "").strip()
        return "truncated-thinking" if thinking else "truncated-answer"
    if verdict.grader == NOT_COMPARABLE:
        return "not-comparable"
    unfinished = verdict.grader in ("math-verify-timeout", "math-verify-crash", "tests-missing")
    return "no-answer" if row["extracted"] is None or unfinished else "wrong"


def execute(programs: Sequence[Program], workers: int = 1, timeout_s: float = 10.0) -> dict[Program, Grade]:
    """A verdict for each program: its tests in the sandbox, `workers` at a time. Raises GradingError without one."""
    if programs and (fault := sandbox.unavailable_reason()):
        raise GradingError(f"grading.execute_code: {fault}")

    def work(program: Program) -> Grade:
        question, code, tests = program
        outcome = sandbox.check(question, code, tests, timeout_s)
        return Grade(outcome.passed, outcome.grader)

    try:
        with ThreadPoolExecutor(workers) as pool:
            return dict(zip(programs, pool.map(work, programs), strict=True))
    except sandbox.SandboxError as error:
        raise GradingError(f"grading.execute_code: {error}") from error


class _Worker:
    """A math_worker process, started again after an answer that ended it.

    Not multiprocessing: its "spawn" imports the parent's main module again, which a workflow script cannot
    bear.
    """

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.process: subprocess.Popen[str] | None = None

    def close(self) -> None:
        """End the process, if there is one."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def _start(self) -> subprocess.Popen[str]:
        path = os.pathsep.join(filter(None, [str(_LIBRARY), os.environ.get("PYTHONPATH")]))
        process = subprocess.Popen(
            [sys.executable, "-P", str(_WORKER), str(self.timeout_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=os.environ | {"PYTHONPATH": path, "PYTHONHASHSEED": "0"},  # SymPy's order of terms follows the hash
        )
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise GradingError(f"math-verify does not start (exit code {process.wait()}); its error is above")
        return process

    def compare(self, pair: Pair) -> Grade:
        for _ in range(2):  # a worker that dies otherwise than by its timer may have been killed from outside
            self.process = self.process or self._start()
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            try:
                self.process.stdin.write(json.dumps({"gold": pair[0], "answer": pair[1]}) + "\n")
                self.process.stdin.flush()
                reply = self.process.stdout.readline()
            except BrokenPipeError:
                reply = ""
            if reply:
                equal = json.loads(reply)
                return Grade(False, NOT_COMPARABLE) if equal is None else Grade(equal, "math-verify")
            code = self.process.wait()
            self.process = None
            if code == -signal.SIGPROF:
                return Grade(False, "math-verify-timeout")
        return Grade(False, "math-verify-crash")
