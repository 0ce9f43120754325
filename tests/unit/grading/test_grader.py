"""Grades: known equalities, the reasons of misses, golds against themselves, answers that hang the grader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from rllm_serving.datasets.loaders import QUESTION_SCHEMA, gsm8k_gold
from rllm_serving.grading import grader as grading
from rllm_serving.grading import sandbox
from rllm_serving.grading.extraction import extract
from rllm_serving.grading.grader import (
    CODE_NOT_EXECUTED,
    FORCED_LENGTH,
    GRADE_SCHEMA,
    NOT_COMPARABLE,
    Grade,
    Grader,
    GradingError,
    Pair,
)
from rllm_serving.grading.sandbox import ExecutionResult
from rllm_serving.measurement.rows import REQUESTS
from rllm_serving.schemas import SERVER_KEYS

# Written for these tests in the forms that golds take in GSM8K.
GSM8K_ANSWERS = [
    "He packs 3 * 4 = <<3*4=12>>12 boxes.\n#### 12",
    "The total is <<600*2=1200>>1,200 dollars.\n#### 1,200",
    "That makes 2,125,000 in all.\n#### 2,125,000",
    "He loses 10 - 25 = <<10-25=-15>>15.\n#### -15",
    "Half of 5 is <<5/2=2.5>>2.5.\n#### 2.5",
    "Marked #### twice.\n#### $0",
]


def questions(*golds: tuple[str, str]) -> pa.Table:
    rows = [
        {
            "question_id": f"q{number}",
            "question": "?",
            "choices": ["w", "x", "y", "z"] if kind == "choice" else [],
            "gold": gold,
            "kind": kind,
            "domain": "d",
            "difficulty": "easy",
        }
        for number, (kind, gold) in enumerate(golds)
    ]
    return pa.Table.from_pylist(rows, schema=QUESTION_SCHEMA)


def requests(*changes: dict[str, Any]) -> pa.Table:
    base = dict.fromkeys(SERVER_KEYS, "x") | {
        "dataset": "set",
        "load": "batch-4",
        "budget": 64,
        "repeat": 0,
        "question_id": "q0",
        "forced_output_tokens": None,
        "status": "ok",
        "finish_reason": "stop",
        "reasoning_text": "hm",
        "answer_text": "",
    }
    rows = [base | {"index": index} | change for index, change in enumerate(changes)]
    return pa.Table.from_pylist(rows, schema=REQUESTS)


def grade(table: pa.Table, golds: dict[str, pa.Table], **options: Any) -> pa.Table:
    with Grader(golds, **options) as grader:
        return grader.grade(table)


def compare(pairs: list[Pair], **options: Any) -> dict[Pair, Grade]:
    with Grader({}, **options) as grader:
        return grader.compare(pairs)


def not_equal_to_themselves(golds: list[str], kind: str) -> list[str]:
    pairs = {(gold, extract(rf"So it is $\boxed{{{gold}}}$.", kind) or "") for gold in golds}
    verdicts = compare(sorted(pairs), workers=2, timeout_s=20)
    return [gold for (gold, _), verdict in verdicts.items() if not verdict.correct]


def test_golds_of_gsm8k_form_are_numbers_and_equal_themselves() -> None:
    golds = [gsm8k_gold(answer) for answer in GSM8K_ANSWERS]
    assert golds == ["12", "1200", "2125000", "-15", "2.5", "0"]
    assert not_equal_to_themselves(golds, "number") == []


EQUAL = [
    (r"\frac{1}{2}", "0.5"),
    (r"\frac12", r"\dfrac{1}{2}"),
    ("0.5", "1/2"),
    ("18", "18.00"),
    ("18", r"x = 18"),
    ("18", r"18\text{ cm}"),
    ("50", r"50\%"),
    (r"\frac12", r"50\%"),
    ("(2,5]", r"x \in (2,5]"),
    (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\pi/2)"),
    (r"\{1,2\}", "2, 1"),
    ("x^2-1", "(x-1)(x+1)"),
    (r"10\sqrt{2}", r"\sqrt{200}"),
    (r"\text{east}", "east"),
    ("52_8", "52_{8}"),
    ("52_8", "52"),
]
DIFFERENT = [
    ("18", "-18"),
    ("18", "18, 20"),
    ("1200", "12"),
    ("23", "2, 3"),
    (r"\frac12", "0.4999"),
    ("(2,5]", "[2,5]"),
    (r"(3,\frac{\pi}{2})", r"(\pi/2,3)"),
    ("x^2-1", "x^2+1"),
    (r"\text{east}", r"\text{west}"),
    ("18", ""),
    ("18", r"\frac{"),
    ("52_8", "52_9"),
    ("4210_{5}", "4210_6"),
]


def test_known_equalities_and_differences() -> None:
    verdicts = compare(EQUAL + DIFFERENT, workers=2, timeout_s=20)
    assert [pair for pair in EQUAL if not verdicts[pair].correct] == []
    assert [pair for pair in DIFFERENT if verdicts[pair].correct] == []


@pytest.mark.slow
def test_a_hanging_answer_ends_at_its_limit_and_the_others_stand() -> None:
    table = requests(
        {"answer_text": r"\boxed{3}"},
        {"answer_text": r"\boxed{9^{9^{9^{9}}}}"},
        {"answer_text": r"\boxed{4}"},
        {"answer_text": r"\boxed{3.0}"},
    )
    rows = grade(table, {"set": questions(("math", "3"))}, workers=1, timeout_s=2).to_pylist()
    assert [row["correct"] for row in rows] == [True, False, False, True]
    assert [row["failure_mode"] for row in rows] == [None, "no-answer", "wrong", None]
    assert [row["grader"] for row in rows] == [
        "math-verify",
        "math-verify-timeout",
        "math-verify",
        "math-verify",
    ]


def test_a_miss_keeps_its_reason_and_order_stays() -> None:
    table = requests(
        {"status": "truncated", "answer_text": r"\boxed{3}", "finish_reason": None},
        {"status": "http", "answer_text": None, "reasoning_text": None, "finish_reason": None},
        {"finish_reason": "length", "answer_text": "\n"},
        {"finish_reason": "length", "answer_text": "The answer is 3"},
        {"finish_reason": "length", "answer_text": r"\boxed{3} because"},
        {"finish_reason": "length", "answer_text": "", "reasoning_text": ""},
        {"answer_text": "It is three, 3."},
        {"answer_text": r"\boxed{4}"},
        {"answer_text": "Q: was it 4?\nNo.\nThe answer is 3."},
    )
    graded = grade(table, {"set": questions(("number", "3"))}, workers=2, timeout_s=20)
    assert graded.schema.equals(GRADE_SCHEMA)
    assert graded["index"].to_pylist() == list(range(9))
    assert graded["failure_mode"].to_pylist() == [
        "failed",
        "failed",
        "truncated-thinking",
        "truncated-answer",
        None,
        "truncated-answer",
        "no-answer",
        "wrong",
        None,
    ]
    assert graded["extracted"].to_pylist() == [None, None, None, None, "3", None, None, "4", "3"]
    assert graded["correct"].to_pylist() == [miss is None for miss in graded["failure_mode"].to_pylist()]


def test_choices_are_graded_by_the_letter_without_math_verify(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grading, "_WORKER", Path("nowhere.py"))
    table = requests({"answer_text": r"\boxed{C}"}, {"answer_text": "Answer: B"}, {"answer_text": "Vitamin C"})
    rows = grade(table, {"set": questions(("choice", "C"))}).to_pylist()
    assert [row["failure_mode"] for row in rows] == [None, "wrong", "no-answer"]
    assert {row["grader"] for row in rows} == {"letter"}


def test_ten_options_are_graded_by_their_letters() -> None:
    table = requests(*({"answer_text": rf"\boxed{{{letter}}}"} for letter in "ABCDEFGHIJ"))
    graded = grade(table, {"set": questions(("choice", "J"))})
    assert graded["correct"].to_pylist() == [False] * 9 + [True]


CODE = "```python\ndef f():\n    return 1\n```"


def test_code_is_not_graded_and_not_run_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "check", lambda *_: pytest.fail("code was run"))
    table = requests({"answer_text": CODE}, {"answer_text": "no code"}, {"status": "http", "answer_text": None})
    graded = grade(table, {"set": questions(("code", "check(f)"))})
    assert graded["correct"].to_pylist() == graded["failure_mode"].to_pylist() == [None] * 3
    assert graded["grader"].to_pylist() == [CODE_NOT_EXECUTED] * 3
    assert graded["extracted"].to_pylist() == ["def f():\n    return 1", None, None]


def test_answers_that_were_made_to_have_a_length_are_not_graded() -> None:
    table = requests({"answer_text": r"\boxed{3}", "forced_output_tokens": 20}, {"answer_text": r"\boxed{3}"})
    graded = grade(table, {"set": questions(("number", "3"))})
    assert graded["correct"].to_pylist() == [None, True]
    assert graded["grader"].to_pylist() == [FORCED_LENGTH, "math-verify"]


def test_code_is_graded_by_what_the_sandbox_says_once_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []
    outcomes = {
        "a": ExecutionResult(True, "tests", ""),
        "b": ExecutionResult(False, "tests-timeout", "out of CPU time"),
    }

    def check(question: str, code: str, tests: str, timeout_s: float) -> ExecutionResult:
        asked.append((question, code, tests, timeout_s))
        return outcomes[code[-1]]

    monkeypatch.setattr(sandbox, "check", check)
    monkeypatch.setattr(sandbox, "unavailable_reason", lambda: None)
    blocks = [f"```\ndef f(): return {name}\n```" for name in "aab"]
    table = requests(*({"answer_text": text} for text in [*blocks, "no code"]))
    graded = grade(table, {"set": questions(("code", "check(f)"))}, timeout_s=3, execute_code=True)
    assert sorted(asked) == [("?", f"def f(): return {name}", "check(f)", 3) for name in "ab"]
    assert graded["correct"].to_pylist() == [True, True, False, False]
    assert graded["failure_mode"].to_pylist() == [None, None, "wrong", "no-answer"]
    assert graded["grader"].to_pylist() == ["tests", "tests", "tests-timeout", "tests"]


def test_code_that_cannot_be_run_safely_is_an_error_not_a_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(GradingError, match=r"grading\.execute_code: bubblewrap \(bwrap\) is not installed"):
        grade(requests({"answer_text": CODE}), {"set": questions(("code", "check(f)"))}, execute_code=True)


def test_equal_pairs_are_compared_once_in_all_runs_and_sets_do_not_mix(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[Pair]] = []

    def spy(grader: Grader, pairs: list[Pair]) -> dict[Pair, Grade]:
        asked.append(pairs)
        return {pair: Grade(pair[0] == pair[1], "math-verify") for pair in pairs}

    monkeypatch.setattr(Grader, "compare", spy)
    answers = [{"answer_text": r"\boxed{3}"}] * 5 + [{"answer_text": r"\boxed{3}", "dataset": "other"}]
    golds = {"set": questions(("number", "3")), "other": questions(("number", "4"))}
    with Grader(golds) as grader:
        graded = grader.grade(requests(*answers))
        another = {"setup": "y"}
        again = grader.grade(requests(*(answer | another for answer in [*answers, {"answer_text": r"\boxed{7}"}])))
    assert asked == [[("3", "3"), ("4", "3")], [("3", "7")]]
    assert graded["correct"].to_pylist() == [True] * 5 + [False]
    assert again["correct"].to_pylist() == [True] * 5 + [False] * 2 and set(again["setup"].to_pylist()) == {"y"}


def test_a_question_without_a_gold_is_an_error() -> None:
    with pytest.raises(GradingError, match=r"datasets\.set: no gold for question 'q7'"):
        grade(requests({"question_id": "q7"}), {"set": questions(("number", "3"))})


def test_a_grader_that_does_not_start_is_an_error_not_a_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grading, "_WORKER", Path("nowhere.py"))
    with pytest.raises(GradingError, match="does not start"):
        grade(requests({"answer_text": r"\boxed{3}"}), {"set": questions(("number", "3"))})


def test_a_worker_that_is_killed_is_asked_once_more(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    flag = tmp_path / "died"
    dying = tmp_path / "worker.py"
    dying.write_text(
        "import os, sys, pathlib\n"
        "print('ready', flush=True)\n"
        f"flag = pathlib.Path({str(flag)!r})\n"
        "for line in sys.stdin:\n"
        "    if 'poison' in line or not flag.exists():\n"
        "        flag.touch()\n"
        "        os.kill(os.getpid(), 9)\n"
        "    print('true', flush=True)\n"
    )
    monkeypatch.setattr(grading, "_WORKER", dying)
    verdicts = compare([("1", "1"), ("1", "poison"), ("2", "2")], workers=1)
    assert [verdict.grader for verdict in verdicts.values()] == [
        "math-verify",
        "math-verify-crash",
        "math-verify",
    ]
    assert [verdict.correct for verdict in verdicts.values()] == [True, False, True]


def test_what_the_parser_reads_in_part_is_not_comparable_and_counted_apart() -> None:
    texts = [
        r"\boxed{\ge 18}",
        r"\boxed{1, 2, \ldots, 18}",
        r"\boxed{18\foo}",
        r"\boxed{17}",
        r"\boxed{P(x \mid y) = 18}",
    ]
    rows = grade(requests(*({"answer_text": text} for text in texts)), {"set": questions(("math", "18"))}).to_pylist()
    assert [row["failure_mode"] for row in rows] == [*["not-comparable"] * 3, "wrong", None]
    assert [row["grader"] for row in rows] == [*[NOT_COMPARABLE] * 3, "math-verify", "math-verify"]


def test_a_gold_that_is_a_letter_is_graded_as_a_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grading, "_WORKER", Path("nowhere.py"))
    texts = [r"\boxed{\text{(C) Plane}}", "C) Plane", r"\boxed{\text{(B)}}", r"\boxed{\text{Plane}}", "Plane"]
    rows = grade(
        requests(*({"answer_text": text} for text in texts)), {"set": questions(("math", r"\text{(C)}"))}
    ).to_pylist()
    assert [row["failure_mode"] for row in rows] == [None, None, "wrong", "wrong", "no-answer"]
    assert {row["grader"] for row in rows} == {"letter"}


def test_code_without_the_function_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "unavailable_reason", lambda: None)
    monkeypatch.setattr(
        sandbox, "check", lambda *_: ExecutionResult(False, "tests-missing", "the function f is missing")
    )
    table = requests({"answer_text": "```python\ndef g(): ...\n```"})
    (row,) = grade(table, {"set": questions(("code", "check(f)"))}, execute_code=True).to_pylist()
    assert (row["grader"], row["failure_mode"]) == ("tests-missing", "no-answer")


def test_the_function_that_the_tests_ask_for_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "check", lambda *_: pytest.fail("code was run"))
    table = requests({"answer_text": f"{CODE}\n```python\ndef test_f():\n    assert f() == 1\n```"})
    assert grade(table, {"set": questions(("code", "check(f)"))})["extracted"].to_pylist() == ["def f():\n    return 1"]
