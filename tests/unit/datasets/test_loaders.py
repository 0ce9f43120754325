"""Datasets: golds and columns of the real formats, from files and from the hub's cache, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rllm_serving.datasets.loaders import QUESTION_SCHEMA, DatasetError, load, sample, validate

GSM8K = [
    {"question": "Eggs?", "answer": "9 * 2 = <<9*2=18>>18\n18 + 0 = <<18+0=18>>18\n#### 18"},
    {"question": "Profit?", "answer": "It is 1200.\n#### 1,200"},
    {"question": "Loss?", "answer": "He loses.\n#### -2.5"},
]
MATH500 = [
    {
        "problem": "Half of one?",
        "solution": r"\boxed{\frac{1}{2}}",
        "answer": r"\frac{1}{2}",
        "subject": "Algebra",
        "level": 2,
        "unique_id": "test/algebra/1.json",
    }
]
AIME_CAPITALS = [{"ID": "2024-I-4", "Problem": "Find m.", "Solution": "...", "Answer": 73}]
AIME_SMALL = [{"id": 60, "problem": "Find m.", "solution": "...", "answer": "073", "url": "", "year": "2024"}]
GPQA = [
    {
        "Record ID": f"rec{number}",
        "Question": "Which?",
        "Correct Answer": " right\n",
        "Incorrect Answer 1": "wrong 1",
        "Incorrect Answer 2": "wrong 2",
        "Incorrect Answer 3": "wrong 3",
        "High-level domain": "Physics",
        "Subdomain": "Quantum Mechanics",
    }
    for number in range(40)
]

SUPERGPQA = [
    {
        "uuid": "5d5c2c8d",
        "question": "Which?\n",
        "options": [" zero", *(f"option {number}" for number in range(1, 10))],
        "answer": "option 9",
        "answer_letter": "J",
        "discipline": "Engineering",
        "field": "Control Science",
        "subfield": "Control Theory",
        "difficulty": "middle",
        "is_calculation": False,
    }
]
HUMANEVAL = [
    {
        "task_id": "HumanEval/0",
        "prompt": 'def double(n: int) -> int:\n    """Twice n.\n    >>> double(2)\n    4\n    """\n',
        "canonical_solution": "    return 2 * n\n",
        "test": "\n\nMETADATA = {}\n\n\ndef check(candidate):\n    assert candidate(2) == 4\n\n",
        "entry_point": "double",
    }
]


def jsonl(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def from_file(tmp_path: Path, form: str, rows: list[dict[str, Any]], **more: Any) -> list[dict[str, Any]]:
    path = jsonl(tmp_path / f"{form}.jsonl", rows)
    table = load("mine", {"source": "path", "format": form, "path": path, **more})
    assert table.schema.equals(QUESTION_SCHEMA)
    return list(table.to_pylist())


def test_gsm8k(tmp_path: Path) -> None:
    rows = from_file(tmp_path, "gsm8k", GSM8K)
    assert [row["gold"] for row in rows] == ["18", "1200", "-2.5"]
    assert [row["steps"] for row in rows] == [2, None, None]
    assert {(row["kind"], row["domain"], row["difficulty"]) for row in rows} == {("number", "arithmetic", "easy")}


def test_math500(tmp_path: Path) -> None:
    (row,) = from_file(tmp_path, "math500", MATH500)
    assert (row["question_id"], row["gold"], row["kind"]) == ("test/algebra/1.json", r"\frac{1}{2}", "math")
    assert (row["domain"], row["difficulty"]) == ("Algebra", "level-2")


@pytest.mark.parametrize("rows", [AIME_CAPITALS, AIME_SMALL])
def test_aime2024_reads_both_copies(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    (row,) = from_file(tmp_path, "aime2024", rows)
    assert (row["gold"], row["kind"], row["question"]) == ("73", "number", "Find m.")
    assert from_file(tmp_path, "aime2024", [{"ID": "1", "Problem": "p", "Answer": "000"}])[0]["gold"] == "0"


def test_aime_says_which_years_a_file_holds(tmp_path: Path) -> None:
    address = "https://example.org/2022_AIME_I_Problems/Problem_1"
    rows = from_file(
        tmp_path,
        "aime2024",
        [
            {"id": 0, "problem": "p", "answer": "1", "url": address, "year": None},
            {"id": 60, "problem": "p", "answer": "2", "url": "", "year": "2024"},
            {"id": "2025-I-4", "problem": "p", "answer": "3", "url": None, "year": None},
            {"id": "7", "problem": "p", "answer": "4", "url": None, "year": None},
        ],
    )
    assert [row["domain"] for row in rows] == [
        *(f"mathematics/AIME {year}" for year in (2022, 2024, 2025)),
        "mathematics",
    ]
    assert [row["question_id"] for row in rows] == ["aime2022-0", "aime2024-60", "aime2025-2025-I-4", "aime-7"]


def test_gpqa_refuses_a_wrong_choice_that_repeats_the_right_one(tmp_path: Path) -> None:
    rows = [GPQA[0], GPQA[1] | {"Incorrect Answer 2": "right ", "Incorrect Answer 3": "wrong 1"}]
    message = r"datasets\.mine: row 1, question rec1: Incorrect Answer 2 repeats the Correct Answer, 'right': .*take"
    with pytest.raises(DatasetError, match=message):
        from_file(tmp_path, "gpqa", rows)
    # Two wrong choices may be the same: the right one stays the only one.
    assert from_file(tmp_path, "gpqa", [GPQA[1] | {"Incorrect Answer 3": "wrong 1"}])[0]["question_id"] == "rec1"


def test_gpqa_shuffles_each_question_its_own_way_and_always_the_same(tmp_path: Path) -> None:
    rows = from_file(tmp_path, "gpqa", GPQA)
    assert {row["choices"]["ABCD".index(row["gold"])] for row in rows} == {"right"}
    assert {row["gold"] for row in rows} == set("ABCD")
    assert {tuple(sorted(row["choices"])) for row in rows} == {("right", "wrong 1", "wrong 2", "wrong 3")}
    assert rows[0]["domain"] == "Physics/Quantum Mechanics"
    assert from_file(tmp_path, "gpqa", GPQA[::-1])[::-1] == rows


def test_supergpqa_keeps_the_order_of_its_options(tmp_path: Path) -> None:
    (row,) = from_file(tmp_path, "supergpqa", SUPERGPQA)
    assert (row["question_id"], row["question"], row["kind"], row["gold"]) == ("5d5c2c8d", "Which?", "choice", "J")
    assert row["choices"] == ["zero", *(f"option {number}" for number in range(1, 10))]
    assert (row["domain"], row["difficulty"]) == ("Engineering", "middle")
    with pytest.raises(DatasetError, match="the gold 'J' is no letter of 4 choices"):
        from_file(tmp_path, "supergpqa", [{**SUPERGPQA[0], "options": list("wxyz")}])


def test_humaneval_asks_for_a_function_and_ends_in_its_check(tmp_path: Path) -> None:
    (row,) = from_file(tmp_path, "humaneval", HUMANEVAL)
    assert (row["question_id"], row["kind"], row["choices"]) == ("HumanEval/0", "code", [])
    assert row["question"] == HUMANEVAL[0]["prompt"].strip()
    assert row["gold"].startswith("METADATA") and row["gold"].endswith("== 4\n\ncheck(double)")


def test_parquet_a_label_for_the_whole_set_and_the_first_questions(tmp_path: Path) -> None:
    path = tmp_path / "gsm8k.parquet"
    pq.write_table(pa.Table.from_pylist(GSM8K), path)
    spec = {"source": "path", "format": "gsm8k", "path": str(path), "difficulty": "medium", "num_questions": 2}
    table = load("mine", spec)
    assert table["gold"].to_pylist() == ["18", "1200"]
    assert set(table["difficulty"].to_pylist()) == {"medium"}
    with pytest.raises(DatasetError, match=r"datasets\.mine\.num_questions: 4 asked, the set has 3"):
        load("mine", spec | {"num_questions": 4})


def test_micro_suites_come_in_the_same_schema() -> None:
    spec = {"source": "micro", "suite": "arith-easy", "num_questions": 5}
    table = load("easy", spec, seed=3)
    assert table.schema.equals(QUESTION_SCHEMA)
    assert table.num_rows == 5
    assert table.equals(load("easy", spec, seed=3))
    assert not table.equals(load("easy", spec, seed=4))


@pytest.mark.parametrize(
    ("form", "rows", "message"),
    [
        (
            "math500",
            [{"question": "?"}],
            r"row 0 has no column 'unique_id'; format math500 needs .*there are: question",
        ),
        (
            "gsm8k",
            [{"question": "?", "answer": "no mark"}],
            r"row 0 \(question_id 'gsm8k-00000'\): gold is empty",
        ),
        ("gsm8k", [{"question": "?", "answer": "#### a few"}], "the gold 'a few' is no number"),
        ("gsm8k", [{"question": None, "answer": "#### 1"}], "row 0 has an empty or wrongly typed column"),
        ("aime2024", AIME_SMALL * 2, r"row 1 \(question_id 'aime2024-60'\): the question_id is there twice"),
        (
            "aime2024",
            [{"problem_idx": 1, "answer": 70, "problem": "p"}],
            r"row 0 has no column 'id'; format aime2024 needs id, problem, answer; there are: problem_idx, answer",
        ),
        (
            "aime2024",
            [{"question": "p", "answer": "70"}],
            r"row 0 has no column 'id'; format aime2024 needs id, problem, answer; there are: question, answer",
        ),
        ("mmlu", [{"a": 1}], r"datasets\.mine\.format: unknown format 'mmlu'; known: gsm8k"),
    ],
)
def test_faults_of_a_file_are_named(tmp_path: Path, form: str, rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        from_file(tmp_path, form, rows)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte order mark"])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("answers", [("7", "8"), ("7", 8)], ids=["texts", "mixed types"])
def test_a_byte_order_mark_and_separators_of_unicode_break_no_line(
    tmp_path: Path, mark: bytes, line_end: bytes, answers: tuple[Any, ...]
) -> None:
    rows = [{"id": i, "problem": f"a\u2028b\u2029c\x85d {i}", "answer": answer} for i, answer in enumerate(answers)]
    path = tmp_path / "x.jsonl"
    lines = (json.dumps(row, ensure_ascii=False).encode() for row in rows)
    path.write_bytes(mark + line_end.join(lines) + line_end)
    table = load("mine", {"source": "path", "format": "aime2024", "path": str(path)})
    assert table["question"].to_pylist() == [row["problem"] for row in rows]


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "is empty"), (b'{"question": "\xe9", "answer": "#### 1"}', "is no UTF-8 text")]
)
def test_an_empty_file_and_another_encoding_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.jsonl").write_bytes(content)
    with pytest.raises(DatasetError, match=rf"datasets\.mine\.path: .*x\.jsonl: {message}"):
        load("mine", {"source": "path", "format": "gsm8k", "path": str(tmp_path / "x.jsonl")})


@pytest.mark.parametrize(("file", "content"), [("x.csv", "a"), ("gone.jsonl", None), ("broken.jsonl", "{no json")])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, file: str, content: str | None) -> None:
    if content is not None:
        (tmp_path / file).write_text(content)
    with pytest.raises(DatasetError, match=rf"datasets\.mine\.path: .*{file}"):
        load("mine", {"source": "path", "format": "gsm8k", "path": str(tmp_path / file)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gold": "E"}, "the gold 'E' is no letter of 4 choices"),
        ({"gold": ""}, "gold is empty"),
        ({"choices": []}, "choice needs some"),
        ({"kind": "number", "gold": "3"}, "all others an empty list"),
        ({"kind": "code", "gold": "assert f()", "choices": []}, r"does not end with a line check\(NAME\)"),
        ({"kind": "essay"}, "unknown kind 'essay'"),
        ({"domain": None}, "domain is empty"),
    ],
)
def test_validate_names_the_fault(change: dict[str, Any], message: str) -> None:
    row = {
        "question_id": "q",
        "question": "?",
        "choices": list("wxyz"),
        "gold": "D",
        "kind": "choice",
        "domain": "d",
        "difficulty": "easy",
    }
    validate(pa.Table.from_pylist([row], schema=QUESTION_SCHEMA))
    with pytest.raises(DatasetError, match=rf"datasets\.set: row 0 \(question_id 'q'\): .*{message}"):
        validate(pa.Table.from_pylist([row | change], schema=QUESTION_SCHEMA), "set")


def test_validate_refuses_other_columns_and_no_rows() -> None:
    with pytest.raises(DatasetError, match="columns"):
        validate(pa.table({"question": ["?"]}))
    with pytest.raises(DatasetError, match="no questions"):
        validate(QUESTION_SCHEMA.empty_table())


def test_sample_takes_the_first_or_draws() -> None:
    table = pa.table({"n": range(100)})
    assert sample(table, 3)["n"].to_pylist() == [0, 1, 2]
    drawn = sample(table, 10, seed=1)["n"].to_pylist()
    assert drawn == sample(table, 10, seed=1)["n"].to_pylist() == sorted(set(drawn))
    assert drawn != list(range(10))
    with pytest.raises(DatasetError, match="101 questions asked, the set has 100"):
        sample(table, 101)
