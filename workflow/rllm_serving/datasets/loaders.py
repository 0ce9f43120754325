"""Questions of every dataset in one schema: from the hub, from local files, or generated (micro suites)."""

from __future__ import annotations

import dataclasses
import os
import random
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..errors import UserError

QUESTION_SCHEMA = pa.schema(
    [
        ("question_id", pa.string()),
        ("question", pa.string()),
        ("choices", pa.list_(pa.string())),
        ("gold", pa.string()),
        ("kind", pa.string()),
        ("domain", pa.string()),
        ("difficulty", pa.string()),
        ("steps", pa.int32()),
    ]
)
"""A row a question. gold: a number (kind "number"), LaTeX ("math"), the letter of a choice ("choice"), or Python that
tests an answer ("code"): its last line is ``check(NAME)``, NAME the function that the question begins."""

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
KINDS = ("number", "math", "choice", "code")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_CHECK = re.compile(r"^check\(\w+\)\s*\Z", re.MULTILINE)
_YEAR = re.compile(r"(?<![0-9])(?:19|20)[0-9]{2}(?![0-9])")


class DatasetError(UserError):
    """A dataset that cannot be loaded or used; the message names its key in the config and what to do."""


class _UnusableError(Exception):
    """A record that is no usable question; says why, and what to do."""


Record = Mapping[str, Any]


def _question(question_id: str, question: str, gold: str, kind: str, **more: Any) -> dict[str, Any]:
    row = {"question_id": question_id, "question": question.strip(), "gold": gold, "kind": kind}
    return {"choices": [], "steps": None} | row | more


def gsm8k_gold(answer: str) -> str:
    """The number after the last ``####`` of a GSM8K answer, without separators ("1,200" -> "1200")."""
    return answer.rpartition("####")[2].strip().replace(",", "").removeprefix("$")


def _gsm8k(row: int, record: Record) -> dict[str, Any]:
    answer = record["answer"]
    return _question(
        f"gsm8k-{row:05d}",
        record["question"],
        gsm8k_gold(answer) if "####" in answer else "",
        "number",
        domain="arithmetic",
        difficulty="easy",
        steps=answer.count("<<") or None,  # one calculator note a step
    )


def _math500(row: int, record: Record) -> dict[str, Any]:
    return _question(
        record["unique_id"],
        record["problem"],
        record["answer"].strip(),
        "math",
        domain=record["subject"],
        difficulty=f"level-{record['level']}",
    )


def _aime2024(row: int, record: Record) -> dict[str, Any]:
    # Two copies on the hub differ in capitals and in the answer's type: "073", 73. Files of more years have the same
    # columns; the year stands in one of its own, in the id, or in the address of the problem.
    record = {key.lower(): value for key, value in record.items()}
    gold = str(record["answer"]).strip().lstrip("0") or "0"
    places = [str(record.get(column) or "") for column in ("year", "id", "url")]
    year = next((found[0] for place in places if (found := _YEAR.search(place))), None)
    return _question(
        f"aime{year or ''}-{record['id']}",
        record["problem"],
        gold,
        "number",
        domain=f"mathematics/AIME {year}" if year else "mathematics",
        difficulty="hard",
    )


def _gpqa(row: int, record: Record) -> dict[str, Any]:
    # The right choice is always named first. The order follows from the question's id alone, so that every
    # study, repeat and model sees the same prompt.
    correct = record["Correct Answer"].strip()
    choices = [correct, *(record[f"Incorrect Answer {n}"].strip() for n in (1, 2, 3))]
    same = [n for n in (1, 2, 3) if choices[n].split() == correct.split()]
    if same:
        raise _UnusableError(
            f"question {record['Record ID']}: Incorrect Answer {same[0]} repeats the Correct Answer, {correct!r}: two "
            "letters would be right; take the row out, or correct it"
        )
    random.Random(f"gpqa/{record['Record ID']}").shuffle(choices)
    return _question(
        record["Record ID"],
        record["Question"],
        LETTERS[choices.index(correct)],
        "choice",
        choices=choices,
        domain=f"{record['High-level domain']}/{record['Subdomain']}",
        difficulty="graduate",
    )


def _supergpqa(row: int, record: Record) -> dict[str, Any]:
    return _question(
        record["uuid"],
        record["question"],
        record["answer_letter"].strip(),
        "choice",
        choices=[option.strip() for option in record["options"]],
        domain=record["discipline"],
        difficulty=record["difficulty"],
    )


def _humaneval(row: int, record: Record) -> dict[str, Any]:
    return _question(
        record["task_id"],
        record["prompt"],
        f"{record['test'].strip()}\n\ncheck({record['entry_point']})",
        "code",
        domain="code",
        difficulty="easy",
    )


FORMATS: dict[str, tuple[Callable[[int, Record], dict[str, Any]], str, str]] = {
    "gsm8k": (_gsm8k, "test", "question, answer"),
    "math500": (_math500, "test", "unique_id, problem, answer, subject, level"),
    "aime2024": (_aime2024, "train", "id, problem, answer"),
    "gpqa": (
        _gpqa,
        "train",
        "Record ID, Question, Correct Answer, Incorrect Answer 1-3, High-level domain, Subdomain",
    ),
    "supergpqa": (_supergpqa, "train", "uuid, question, options, answer_letter, discipline, difficulty"),
    "humaneval": (_humaneval, "test", "task_id, prompt, test, entry_point"),
}
"""Known layouts of source records: how to read one, the split of its questions on the hub, its columns."""


def load(name: str, spec: Mapping[str, Any], seed: int = 0, cache_dir: Path | None = None) -> pa.Table:
    """The questions of the config's entry `spec` for dataset `name`, validated, as QUESTION_SCHEMA.

    spec: `source` hub (`id`, `revision` as a full commit hash, `format`, optional `subset` and `split`,
    default the format's), path (`path` to JSON lines or Parquet, `format`) or micro (`suite`, `questions`).
    Optional for all: `questions` (the first N), `difficulty` (one label for the whole set).
    `seed` draws the micro suites. `cache_dir` is where the datasets library keeps its files: by default its
    own cache for the hub, and a temporary folder for local files. The hub is asked with the token in
    HF_TOKEN, if any. Raises DatasetError.
    """
    if spec["source"] == "micro":
        from .micro_questions import generate

        rows = [dataclasses.asdict(q) for q in generate(spec["suite"], spec["num_questions"], seed, split="test")]
    else:
        form = spec["format"]
        if form not in FORMATS:
            raise DatasetError(f"datasets.{name}.format: unknown format {form!r}; known: {', '.join(FORMATS)}")
        records = _from_hub(name, spec, cache_dir) if spec["source"] == "hub" else _from_file(name, spec, cache_dir)
        rows = list(_read(name, form, records))
    if "difficulty" in spec:
        rows = [row | {"difficulty": spec["difficulty"]} for row in rows]
    table = pa.Table.from_pylist(rows, schema=QUESTION_SCHEMA)
    validate(table, name)
    count = spec.get("num_questions", table.num_rows)
    if count > table.num_rows:
        raise DatasetError(f"datasets.{name}.num_questions: {count} asked, the set has {table.num_rows}")
    return table.slice(0, count)


def _read(name: str, form: str, records: list[Record]) -> Iterator[dict[str, Any]]:
    read, _, columns = FORMATS[form]
    for row, record in enumerate(records):
        try:
            yield read(row, record)
        except KeyError as error:
            raise DatasetError(
                f"datasets.{name}: row {row} has no column {error}; format {form} needs {columns}; "
                f"there are: {', '.join(record)}"
            ) from error
        except _UnusableError as error:
            raise DatasetError(f"datasets.{name}: row {row}, {error}") from error
        except (AttributeError, TypeError) as error:
            raise DatasetError(f"datasets.{name}: row {row} has an empty or wrongly typed column: {error}") from error


def _from_file(name: str, spec: Mapping[str, Any], cache_dir: Path | None) -> list[Record]:
    path = Path(spec["path"]).expanduser()
    builder = {".jsonl": "json", ".json": "json", ".parquet": "parquet"}.get(path.suffix)
    if builder is None or not path.is_file():
        raise DatasetError(f"datasets.{name}.path: {path} is no .jsonl, .json or .parquet file")
    from datasets import load_dataset
    from datasets.exceptions import DatasetGenerationError

    with tempfile.TemporaryDirectory() as scratch:
        try:
            table = load_dataset(builder, data_files=str(path), split="train", cache_dir=str(cache_dir or scratch))
            return list(table.to_list())
        except StopIteration:
            raise DatasetError(f"datasets.{name}.path: {path}: is empty; expected a question a line") from None
        except UnicodeDecodeError as error:
            raise DatasetError(f"datasets.{name}.path: {path}: is no UTF-8 text ({error}); save it as UTF-8") from error
        except (DatasetGenerationError, ValueError, OSError) as error:
            raise DatasetError(f"datasets.{name}.path: {path}: {error.__cause__ or error}") from error


def _from_hub(name: str, spec: Mapping[str, Any], cache_dir: Path | None) -> list[Record]:
    revision = spec["revision"]
    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise DatasetError(f"datasets.{name}.revision: {revision!r} is no full commit hash (40 hex digits)")
    from datasets import load_dataset_builder

    token = os.environ.get("HF_TOKEN")
    cache = None if cache_dir is None else str(cache_dir)
    try:
        # token=False: send none, not even one that a login left on this machine.
        builder = load_dataset_builder(
            spec["id"], spec.get("subset"), revision=revision, token=token or False, cache_dir=cache
        )
        # Where the hub cannot be reached the library takes the newest prepared copy, whatever its revision.
        if builder.hash != revision:
            raise DatasetError(
                f"datasets.{name}.revision: the hub was not reached and the cache holds {spec['id']} at "
                f"{builder.hash}, not at {revision}; connect once, or give a local file (source: path)"
            )
        builder.download_and_prepare()
        return list(builder.as_dataset(split=spec.get("split", FORMATS[spec["format"]][1])).to_list())
    except DatasetError:
        raise
    except Exception as error:  # the library's errors have no common base
        message = " ".join(str(error).split())
        message = message.replace(token, "***") if token else message
        raise DatasetError(
            f"datasets.{name}: {spec['id']} at {revision} did not load ({type(error).__name__}: {message}); "
            "check id, subset, split and revision; a gated set needs its terms accepted on the hub and a "
            "token in HF_TOKEN; without a network give a local file (source: path, path: ...)"
        ) from None


def validate(table: pa.Table, name: str = "dataset") -> None:
    """Raise DatasetError, naming dataset, row and fault, unless every row of `table` is a usable question.

    Checked: the schema, at least one row, unique ids, no empty text, a gold that fits its kind.
    """
    if not table.schema.equals(QUESTION_SCHEMA):
        raise DatasetError(f"datasets.{name}: columns {table.schema.names} are not {QUESTION_SCHEMA.names}")
    if table.num_rows == 0:
        raise DatasetError(f"datasets.{name}: no questions")
    ids: set[str] = set()
    for number, row in enumerate(table.to_pylist()):
        fault = _row_error(row)
        if row["question_id"] in ids:
            fault = "the question_id is there twice"
        if fault:
            raise DatasetError(f"datasets.{name}: row {number} (question_id {row['question_id']!r}): {fault}")
        ids.add(row["question_id"])


def _row_error(row: Mapping[str, Any]) -> str | None:
    for column in ("question_id", "question", "gold", "kind", "domain", "difficulty"):
        if not (row[column] or "").strip():
            return f"{column} is empty"
    gold, kind, choices = row["gold"], row["kind"], row["choices"]
    if kind not in KINDS:
        return f"unknown kind {kind!r}; known: {', '.join(KINDS)}"
    if choices is None or (kind == "choice") != bool(choices):
        return f"kind {kind} with choices {choices}: choice needs some, all others an empty list"
    if kind == "number" and not _NUMBER.fullmatch(gold):
        return f"the gold {gold!r} is no number"
    if kind == "choice" and gold not in list(LETTERS[: len(choices)]):
        return f"the gold {gold!r} is no letter of {len(choices)} choices"
    if kind == "code" and not _CHECK.search(gold):
        return "the gold does not end with a line check(NAME)"
    return None


def sample(table: pa.Table, count: int, seed: int | None = None) -> pa.Table:
    """The first `count` questions, or with a `seed` as many drawn without replacement, in table order.

    Raises DatasetError if the table has fewer.
    """
    if count > table.num_rows:
        raise DatasetError(f"{count} questions asked, the set has {table.num_rows}")
    if seed is None:
        return table.slice(0, count)
    return table.take(sorted(random.Random(seed).sample(range(table.num_rows), count)))
