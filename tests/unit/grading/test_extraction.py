r"""What counts as an answer: the box, an explicit phrase, a bare value, and nothing else."""

from __future__ import annotations

import time

import pytest
from rllm_serving.grading.boxes import boxes
from rllm_serving.grading.extraction import LONGEST, extract


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\boxed{18}", "18"),
        (r"first \boxed{5}, no: \boxed{7}", "7"),
        (r"put it within \boxed{}: \boxed{7}. Not within \boxed{}", "7"),
        (r"The answer is 12. \boxed{7}", "7"),
        (r"\boxed{\$1,200}", "1200"),
        (r"\boxed{1{,}200.50}", "1200.50"),
        (r"\boxed{1\,200}", "1200"),
        (r"\boxed{1 200}", "1200"),
        (r"\boxed{-\$5}", "-5"),
        (r"\boxed{18 dollars}", "18"),
        (r"\boxed{18\text{ eggs}}", "18"),
        (r"\boxed{50\%}", r"50\%"),
        (r"\boxed{x = 18}", "x = 18"),
        ("\\boxed{\n18\n}", "18"),
        ("The answer is 18.", "18"),
        ("**Answer:** $18 per day", "18"),
        ("**Final Answer:**\n\n18", "18"),
        ("The answer is\n\\[\n18\n\\]", "18"),
        ("The answer is 9 * 2 = 18.", "18"),
        ("The answer to the question is: 18", "18"),
        ("Q: What is 3 + 4?\nA: 7 it is.\nThe answer is 7", "7"),
        ("18", "18"),
        ("$18$", "18"),
        ("\u22125", "-5"),
    ],
)
def test_numbers_are_found(text: str, expected: str) -> None:
    assert extract(text, "number") == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  \n",
        "She sells 9 eggs at 2 dollars and makes 18 dollars a day.",
        "9 * 2 = 18",
        "The answer is 18 dollars for 3 days.",
        "Some say the answer is 18\nbut I doubt it.",
        "The answer is unknown",
        r"The answer is \boxed{18",
        r"\boxed{}",
        "18x",
    ],
)
def test_a_number_in_prose_is_no_answer(text: str) -> None:
    assert extract(text, "number") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\boxed{\frac{1}{\sqrt{2}}}", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\left\{ x \right.}", r"\left\{ x \right."),
        (r"\boxed{\begin{pmatrix} 1 \\[2pt] 2 \end{pmatrix}}", r"\begin{pmatrix} 1 \\[2pt] 2 \end{pmatrix}"),
        (r"The solutions are $\boxed{1}$, $\boxed{2}$ and $\boxed{3}$.", "1, 2, 3"),
        (r"$\boxed{1}$ or $\boxed{-1}$", "1, -1"),
        (r"First $\boxed{3}$. Then $\boxed{4}$", "4"),
        (r"The answer is $\frac12$.", r"\frac12"),
        ("The answer is x^2 - 1.", "x^2 - 1"),
        (r"\(\frac12\)", r"\frac12"),
    ],
)
def test_formulas_are_found(text: str, expected: str) -> None:
    assert extract(text, "math") == expected


@pytest.mark.parametrize("text", ["x^2 it may be", "The answer is $a$ or perhaps $b$", "so $x = 1$ and $y = 2$"])
def test_a_formula_in_prose_is_no_answer(text: str) -> None:
    assert extract(text, "math") is None


@pytest.mark.parametrize(
    "text",
    [
        r"\boxed{C}",
        r"\boxed{\text{C}}",
        r"\boxed{\textbf{(C)}}",
        r"\boxed{(C)}",
        r"\boxed{c}",
        r"\boxed{C. Tripoli}",
        r"\boxed{\text{C) Tripoli}}",
        r"\boxed{\text{option C}}",
        r"Answer: B. No: \boxed{C}",
        "It is the capital.\nAnswer: C",
        "ANSWER IS C",
        "**Answer: C**",
        "The answer is **(C)**.",
        r"The answer is $\text{C}$.",
        "The correct option is (C) Tripoli.",
        "C",
        "(C)",
        "**C**",
    ],
)
def test_letters_are_found(text: str) -> None:
    assert extract(text, "choice") == "C"


@pytest.mark.parametrize("letter", "ABCDEFGHIJ")
@pytest.mark.parametrize(
    "form", [r"\boxed{%s}", r"\boxed{\text{(%s)}}", "The answer is %s.", "Answer: (%s) it is", "%s"]
)
def test_every_letter_of_ten_options_is_found(letter: str, form: str) -> None:
    assert extract(form % letter, "choice") == letter


@pytest.mark.parametrize(
    "text",
    [
        "I think so",
        "The answer is I think the third",
        "Tripoli",
        "A cat sat on the mat",
        "Vitamin C",
        "Option C is tempting",
        "the answer is a metal compound",
        "The answer is A and B",
        "Answer: (A) or (B)",
        "Answer: C\nbut B is likely too",
        r"\boxed{Tripoli}",
        r"\boxed{A metal compound}",
        r"\boxed{A, B}",
        r"The answer is C. \boxed{Tripoli}",
    ],
)
def test_a_stray_capital_is_no_answer(text: str) -> None:
    assert extract(text, "choice") is None


@pytest.mark.parametrize(("text", "expected"), [("The answer is 12", None), ("12", None), (r"\boxed{12} as", "12")])
def test_of_a_text_that_was_cut_off_only_a_box_counts(text: str, expected: str | None) -> None:
    assert extract(text, "number", cut_off=True) == expected


@pytest.mark.parametrize("kind", ["number", "math", "choice"])
@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The answer is 18" + " " * 20000 + "!", False),
        (r"\[" + "\n" * 20000, False),
        (r"\boxed{" * 1000, False),
        ("Answer: " * 5000 + "?" * 20000, False),
        (r"\boxed{1}" + " " * 20000 + r"and \boxed{" + " " * 20000 + "B}", True),
    ],
)
def test_texts_of_a_looping_model_end(kind: str, text: str, found: bool) -> None:
    # Patterns that backtrack over runs of blanks would need years here.
    assert bool(boxes(text)) == found
    if kind != "math" and not found:
        assert extract(text, kind) is None
    elif kind == "choice":
        assert extract(text, kind) == "B"


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        (r"\boxed{3}. The final answer is 5.", "number", "5"),
        (r"\boxed{3}. The final answer is unknown.", "number", "3"),
        (r"\boxed{3}. This answer is correct.", "math", "3"),
        (r"\boxed{3}. The answer is $x$ if $x > 3$.", "math", "3"),
        (r"\boxed{x}. **Answer: D**", "choice", "D"),
        (r"\boxed{C}. The answer is a surprise.", "choice", "C"),
        (r"The answer is 5. \boxed{3}", "number", "3"),
    ],
)
def test_a_final_answer_behind_a_box_counts_if_it_is_a_value(text: str, kind: str, expected: str) -> None:
    assert extract(text, kind) == expected


def test_of_a_text_that_was_cut_off_no_label_counts() -> None:
    assert extract(r"\boxed{3}. The final answer is 5", "number", cut_off=True) == "3"


@pytest.mark.parametrize("kind", ["number", "math", "choice"])
def test_nothing_longer_than_an_answer_is_one(kind: str) -> None:
    assert extract(rf"\boxed{{{'1,000,' * LONGEST}}}", kind) is None
    assert extract(f"The answer is {'1 ' * LONGEST}", kind) is None


@pytest.mark.parametrize("kind", ["number", "math", "choice"])
@pytest.mark.parametrize(
    "text",
    [
        r"\[" * 60000,
        "$" * 60000,
        "answer " * 30000,
        "The answer is " * 20000,
        "**" * 60000,
        "\n" * 200000,
        r"\boxed{" * 12000,
        r"\boxed{\text{1,000}}, " * 10000,
        "#### " * 30000,
        "(" * 100000,
        "A or " * 40000,
    ],
)
def test_the_time_is_linear(kind: str, text: str) -> None:
    before = time.process_time()
    extract(text, kind)
    assert time.process_time() - before < 5


FUNCTION = "def f(x):\n    return x"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"So:\n```python\n{FUNCTION}\n```\nThat is it.", FUNCTION),
        (f"```\n{FUNCTION}\n```", FUNCTION),
        (f"``` PY\r\n{FUNCTION}\n```", FUNCTION),
        (f"```python\ndef g(): ...\n```\nBetter:\n```python\n{FUNCTION}\n```", FUNCTION),
        (f"```python\n{FUNCTION}\n```\nExample:\n```python\nprint(f(1))\n```", FUNCTION),
        (f"```python\n{FUNCTION}\n```\nRun it:\n```bash\npython def.py\n```", FUNCTION),
        ("1. So:\n   ```python\n   def f(x):\n       return x\n   ```", FUNCTION),
        ("```python\n    return x\n```", "    return x"),
        (f"Inline ```x``` and\n```one line```\n```python\n{FUNCTION}\n```", FUNCTION),
        (f"```python\n{FUNCTION}", FUNCTION),
        (f"\n{FUNCTION}\n", FUNCTION),
        (f"import math\n\n{FUNCTION}", f"import math\n\n{FUNCTION}"),
    ],
)
def test_code_is_found(text: str, expected: str) -> None:
    assert extract(text, "code") == expected


@pytest.mark.parametrize(
    "text", ["", "```python\n\n```", "It is x plus 1.", "import math is all", f"```java\n{FUNCTION}\n```", r"\boxed{1}"]
)
def test_text_without_code_is_no_answer(text: str) -> None:
    assert extract(text, "code") is None


def test_of_code_that_was_cut_off_only_a_closed_block_counts() -> None:
    assert extract(f"```python\n{FUNCTION}\n```\nand", "code", cut_off=True) == FUNCTION
    assert extract(f"```python\n{FUNCTION}", "code", cut_off=True) is None
    assert extract(FUNCTION, "code", cut_off=True) is None


def test_fences_of_a_looping_model_end() -> None:
    assert extract("```python\n" * 50_000, "code") is not None
    assert extract("```\n" * 50_000, "code") is None
