"""How far the grading agrees with what Math-Verify's own tests expect: a count a file, and every disagreement.

Run as ``PYTHONPATH=workflow python benchmarks/math_verify_agreement.py test_all.py ...`` with test files of
huggingface/Math-Verify, which are not part of this project. A case is a tuple (gold, answer, expected) in the list of a
``pytest.mark.parametrize``. Both are texts there: the gold is what counts as the answer in its text, else all of it.
docs/grading.md says which disagreements stay, and why.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterator
from pathlib import Path

from rllm_serving.grading.extraction import extract
from rllm_serving.grading.grader import Grader

SHOWN = 160
NAMES = ("gold", "pred", "expected")


def cases(file: Path) -> Iterator[tuple[str, str, bool]]:
    """Gold, answer and expected verdict of each case of a test file."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or getattr(node.func, "attr", "") != "parametrize" or len(node.args) < 2:
            continue
        try:
            names, values = (ast.literal_eval(argument) for argument in node.args[:2])
        except ValueError:  # computed values
            continue
        columns = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
        columns = ["expected" if name == "result" else name for name in columns]
        if not set(NAMES) <= set(columns):
            continue
        for value in values:
            row = dict(zip(columns, value, strict=True))
            if row.get("strict", True) and row.get("precision", 6) == 6:
                yield row["gold"], row["pred"], bool(row["expected"])


def answer(text: str) -> str:
    """What counts as the answer of a text, in mathematics; all of it where the rules find none."""
    return extract(text, "math") or text


def main() -> None:
    """Print the agreement and the disagreements."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("files", nargs="+", type=Path)
    agreed = asked = 0
    with Grader({}, workers=2) as grader:
        for file in arguments.parse_args().files:
            found = [(answer(gold), answer(said), expected) for gold, said, expected in cases(file)]
            verdicts = grader.compare(sorted({(gold, said) for gold, said, _ in found}))
            other = [row for row in found if verdicts[row[:2]].correct != row[2]]
            print(f"{file.name}: {len(found) - len(other)} of {len(found)} agree")
            for gold, said, expected in other:
                grade = verdicts[gold, said]
                print(f"  theirs {expected}, ours {grade.correct} ({grade.grader})")
                print(f"    gold   {gold[-SHOWN:]}\n    answer {said[-SHOWN:]}")
            agreed, asked = agreed + len(found) - len(other), asked + len(found)
    print(f"{agreed} of {asked} agree")


if __name__ == "__main__":
    main()
