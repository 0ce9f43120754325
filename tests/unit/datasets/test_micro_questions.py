import random
import re

import pytest
from rllm_serving.datasets.micro_facts import FACTS, VALUES
from rllm_serving.datasets.micro_questions import HIGHEST, LETTERS, LOWEST, SUITES, VARIABLES, generate, split_of
from rllm_serving.models.micro_solutions import END_THINK, PLAIN_STEPS, THINK, boxed, plain_text, reasoning_text


def solve(text: str) -> int:
    """Evaluate an arithmetic question by Python's own arithmetic."""
    match = re.fullmatch(r"Let (.*) \. What is (\w)\?", text)
    assert match
    given, asked = match.groups()
    values: dict[str, int] = {}
    for assignment in given.split():
        exec(assignment, {}, values)
    return values[asked]


@pytest.mark.parametrize("suite", VARIABLES)
def test_golds_of_arithmetic_are_right_and_sizes_within_the_suite(suite: str) -> None:
    for question in generate(suite, 200, 5, "test"):
        assert int(question.gold) == solve(question.question)
        assert LOWEST <= int(question.gold) <= HIGHEST
        low, high = VARIABLES[suite]
        assert question.steps and low <= question.steps <= high
        assert question.question.count("=") == question.steps
        assert (question.kind, question.choices) == ("number", ())


def test_golds_of_facts_are_right_and_options_are_of_one_domain() -> None:
    known = {fact.question: fact for fact in FACTS}
    questions = generate("facts-mcq", 300, 5, "test")
    for question in questions:
        fact = known[question.question]
        assert question.choices[LETTERS.index(question.gold)] == fact.value
        assert len(set(question.choices)) == len(LETTERS)
        assert set(question.choices) <= set(VALUES[question.domain])
        assert (question.kind, question.steps) == ("choice", None)
    assert {question.gold for question in questions} == set(LETTERS)
    assert {question.domain for question in questions} == set(VALUES)


def test_every_fact_has_one_answer() -> None:
    assert len({fact.question for fact in FACTS}) == len(FACTS)
    assert all(len(set(values)) == len(values) for values in VALUES.values())


@pytest.mark.parametrize("suite", SUITES)
def test_train_and_test_are_disjoint_and_questions_differ(suite: str) -> None:
    train = [q for seed in range(3) for q in generate(suite, 300, seed, "train")]
    test = [q for seed in range(3) for q in generate(suite, 60, seed, "test")]
    assert not {(q.question, q.choices) for q in train} & {(q.question, q.choices) for q in test}
    assert {split_of(q) for q in train} == {"train"}
    assert {split_of(q) for q in test} == {"test"}
    assert len({q.question_id for q in test[:60]}) == 60


@pytest.mark.parametrize("suite", SUITES)
def test_generation_repeats_for_a_seed_and_a_longer_list_begins_alike(suite: str) -> None:
    first = generate(suite, 20, 1, "test")
    assert generate(suite, 20, 1, "test") == first
    assert generate(suite, 30, 1, "test")[:20] == first
    assert generate(suite, 20, 2, "test") != first


def test_the_same_question_has_the_same_id_whatever_the_seed() -> None:
    ids: dict[tuple[str, tuple[str, ...]], str] = {}
    for seed in range(20):
        for question in generate("arith-easy", 60, seed, "test"):
            key = (question.question, question.choices)
            assert ids.setdefault(key, question.question_id) == question.question_id


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="unknown suite 'arith-huge': one of arith-easy"):
        generate("arith-huge", 1, 0, "test")
    with pytest.raises(ValueError, match="unknown split 'dev'"):
        generate("arith-easy", 1, 0, "dev")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"hardly more than .* test questions, not 100000"):
        generate("arith-easy", 100_000, 0, "test")


@pytest.mark.parametrize("suite", SUITES)
def test_both_workings_end_in_the_gold(suite: str) -> None:
    rng = random.Random(0)
    for question in generate(suite, 100, 3, "train"):
        thinking = reasoning_text(question, rng)
        assert boxed(thinking) == boxed(plain_text(question)) == question.gold
        assert thinking.count(END_THINK) == 1
        assert THINK not in thinking  # the prompt has opened it
        assert boxed(thinking.partition(END_THINK)[0]) is None


def test_thinking_reaches_the_gold_by_right_steps() -> None:
    for question in generate("arith-hard", 50, 3, "train"):
        first = reasoning_text(question, random.Random(1)).partition(" .")[0]
        values: dict[str, int] = {}
        for step in first.removeprefix("So ").split():
            name, expression, *rest = step.split("=")
            values[name] = eval(expression, {}, values)
            assert not rest or int(rest[0]) == values[name]
        assert len(values) == question.steps
        assert str(values[max(values)]) == question.gold


def test_plain_working_is_bounded_and_never_thinks() -> None:
    for suite in SUITES:
        for question in generate(suite, 50, 3, "train"):
            text = plain_text(question)
            assert THINK not in text
            assert END_THINK not in text
            assert len(re.findall(r" \w=", text)) <= PLAIN_STEPS
            assert len(text) < 140


def test_thinking_has_a_long_tail_of_checks() -> None:
    question = generate("arith-easy", 1, 3, "train")[0]
    rng = random.Random(2)
    checks = [reasoning_text(question, rng).count("Check:") for _ in range(2000)]
    assert 0.3 < sum(c >= 1 for c in checks) / 2000 < 0.4
    assert max(checks) >= 4


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r"The answer is \boxed{41}.", "41"),
        (r"\boxed{1} so </think> \boxed{2}", "2"),
        (r"\boxed{1} </think> 2", None),
        ("none", None),
    ],
)
def test_boxed(text: str, found: str | None) -> None:
    assert boxed(text) == found
