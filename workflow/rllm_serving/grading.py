"""Grades of a run's requests: numbers and math by math-verify, multiple choice by the exact letter, code by its tests.

What counts as an answer is decided in `answers`. math-verify reads "50%" as equal to 50 and to 0.5, drops
units, takes 1/2 for 0.5, compares floats to 6 decimals, and a tuple's order counts where a set's does not.
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

from . import sandbox
from .answers import extract

GRADE_SCHEMA = pa.schema(
    [
        pa.field("dataset", pa.string(), nullable=False),
        pa.field("load", pa.string(), nullable=False),
        pa.field("budget", pa.int32(), nullable=False),
        pa.field("repeat", pa.int32(), nullable=False),
        pa.field("index", pa.int32(), nullable=False),
        pa.field("question_id", pa.string(), nullable=False),
        pa.field("extracted", pa.string()),
        pa.field("correct", pa.bool_()),
        pa.field("how", pa.string(), nullable=False),
        pa.field("miss", pa.string()),
    ]
)
_KEYS = GRADE_SCHEMA.names[:6]
_READ = ["asked_tokens", "status", "finish_reason", "reasoning_text", "answer_text"]
_WORKER = Path(__file__).with_name("math_worker.py")

NOT_RUN = "not graded: grading.execute_code is off"
MADE_LONG = "not graded: the answer was made to have a length"

Pair = tuple[str, str]
Program = tuple[str, str, str]
"""Question, code of the answer, tests, as `sandbox.check` takes them."""


class GradingError(ValueError):
    """The requests cannot be graded: a question without a gold, or a grader that does not start."""


class Verdict(NamedTuple):
    """Whether the answer is right (None: that was not asked), and how that was found out, see `grade`."""

    correct: bool | None
    how: str


def grade(
    requests: pa.Table,
    golds: Mapping[str, pa.Table],
    workers: int = 1,
    timeout_s: float = 10.0,
    execute_code: bool = False,
) -> pa.Table:
    """One row of GRADE_SCHEMA a request, in the order of `requests`.

    `requests` needs the columns dataset, load, budget, repeat, index, question_id, asked_tokens, status,
    finish_reason, reasoning_text and answer_text; `golds` maps a dataset's name to its questions (QUESTION_SCHEMA).
    `workers` processes; `timeout_s` seconds of CPU time for one answer. Equal answers to a question are graded once.
    how: "letter" for choices; "tests" for code, "tests-timeout" or "tests-crash" where its process was ended or died;
    else "math-verify" (also where there was nothing to compare), "math-verify-timeout" or "-crash". correct and miss
    are null, and `how` says why, where nothing was graded: answers that were made to have a length, and code without
    `execute_code`.
    miss says why an answer is not correct, and is null where it is:
    failed (status is not "ok"; its text is never graded), truncated-thinking (the budget ended before any
    answer), truncated-answer (the budget ended within the answer and what is there is not right), no-answer
    (nothing that counts as an answer, or one that math-verify could not finish), wrong.
    Raises GradingError if a question has no gold, or math-verify or the sandbox does not start.
    """
    questions = {(dataset, row["question_id"]): row for dataset, table in golds.items() for row in table.to_pylist()}
    rows = requests.select([*_KEYS, *_READ]).to_pylist()
    for row in rows:
        question = questions.get((row["dataset"], row["question_id"]))
        if question is None:
            raise GradingError(f"datasets.{row['dataset']}: no gold for question {row['question_id']!r}")
        row |= {name: question[name] for name in ("question", "gold", "kind")}
        row["extracted"] = (
            extract(row["answer_text"] or "", row["kind"], cut_off=row["finish_reason"] == "length")
            if row["status"] == "ok"
            else None
        )
        row["ungraded"] = MADE_LONG if row["asked_tokens"] is not None else None
        if row["kind"] == "code" and not execute_code:
            row["ungraded"] = NOT_RUN
    answered = [row for row in rows if row["extracted"] is not None and row["ungraded"] is None]
    pairs = {(row["gold"], row["extracted"]) for row in answered if row["kind"] in ("number", "math")}
    programs = {_program(row) for row in answered if row["kind"] == "code"}
    verdicts: dict[Any, Verdict] = {**compare(sorted(pairs), workers, timeout_s)}
    verdicts |= execute(sorted(programs), workers, timeout_s)
    return pa.Table.from_pylist([_graded(row, verdicts) for row in rows], schema=GRADE_SCHEMA)


def _program(row: Mapping[str, Any]) -> Program:
    return row["question"], row["extracted"], row["gold"]


def _graded(row: Mapping[str, Any], verdicts: Mapping[Any, Verdict]) -> dict[str, Any]:
    graded = {name: row[name] for name in (*_KEYS, "extracted")}
    if row["ungraded"] is not None:
        return graded | {"correct": None, "how": row["ungraded"], "miss": None}
    if row["kind"] == "choice":
        verdict = Verdict(row["extracted"] == row["gold"], "letter")
    elif row["kind"] == "code":
        verdict = verdicts.get(_program(row), Verdict(False, "tests"))
    else:
        verdict = verdicts.get((row["gold"], row["extracted"]), Verdict(False, "math-verify"))
    return graded | verdict._asdict() | {"miss": _miss(row, verdict)}


def _miss(row: Mapping[str, Any], verdict: Verdict) -> str | None:
    if row["status"] != "ok":
        return "failed"
    if verdict.correct:
        return None
    if row["finish_reason"] == "length":
        thinking = row["reasoning_text"] and not (row["answer_text"] or "").strip()
        return "truncated-thinking" if thinking else "truncated-answer"
    unfinished = row["extracted"] is None or verdict.how.startswith("math-verify-")
    return "no-answer" if unfinished else "wrong"


def compare(pairs: Iterable[Pair], workers: int = 1, timeout_s: float = 10.0) -> dict[Pair, Verdict]:
    """A verdict for each (gold, answer) pair: math-verify in `workers` processes, each pair with a limit."""
    waiting = deque(pairs)

    def work() -> dict[Pair, Verdict]:
        done: dict[Pair, Verdict] = {}
        with _Worker(timeout_s) as worker:
            while True:
                try:
                    pair = waiting.popleft()
                except IndexError:
                    return done
                done[pair] = worker.compare(pair)

    threads = min(workers, len(waiting))
    with ThreadPoolExecutor(max(threads, 1)) as pool:
        parts = [pool.submit(work) for _ in range(threads)]
    return {pair: verdict for part in parts for pair, verdict in part.result().items()}


def execute(programs: Sequence[Program], workers: int = 1, timeout_s: float = 10.0) -> dict[Program, Verdict]:
    """A verdict for each program: its tests in the sandbox, `workers` at a time. Raises GradingError without one."""
    if programs and (fault := sandbox.fault()):
        raise GradingError(f"grading.execute_code: {fault}")

    def work(program: Program) -> Verdict:
        question, code, tests = program
        outcome = sandbox.check(question, code, tests, timeout_s)
        return Verdict(outcome.passed, outcome.how)

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

    def __enter__(self) -> _Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()

    def _start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-P", str(_WORKER), str(self.timeout_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=os.environ | {"PYTHONHASHSEED": "0"},  # SymPy's order of terms follows the hash
        )
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise GradingError(f"math-verify does not start (exit code {process.wait()}); its error is above")
        return process

    def compare(self, pair: Pair) -> Verdict:
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
                return Verdict(json.loads(reply), "math-verify")
            code = self.process.wait()
            self.process = None
            if code == -signal.SIGPROF:
                return Verdict(False, "math-verify-timeout")
        return Verdict(False, "math-verify-crash")
