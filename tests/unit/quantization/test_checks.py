"""Quantization: texts that are looked at, and checks that a checkpoint must pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from helpers.checkpoint_fixtures import BEFORE, KEPT, PACKED, tensor
from rllm_serving.datasets.micro_questions import SUITES, generate
from rllm_serving.models.checkpoints import ModelError
from rllm_serving.quantization.calibration import CHECKED, dataset_questions, digest, micro_questions, plain_text, texts
from rllm_serving.quantization.checks import agreement, sizes
from rllm_serving.study.quantization_methods import METHODS


def test_micro_models_calibrate_on_training_questions_of_every_suite_and_are_checked_on_others() -> None:
    calibrating, checking = micro_questions(66, 7)
    assert (len(calibrating), len(checking)) == (66, CHECKED)
    train = [q.question for suite in SUITES for q in generate(suite, 17, 7, "train")]
    assert {row["question"] for row in calibrating} <= set(train)
    assert not {row["question"] for row in checking if row["kind"] == "number"} & {r["question"] for r in calibrating}
    assert {row["kind"] for row in checking} == {"number", "choice"}
    assert (calibrating, checking) == micro_questions(66, 7) != micro_questions(66, 8)


def test_a_dataset_is_divided_and_must_be_large_enough() -> None:
    rows = [{"question": str(n)} for n in range(50)]
    calibrating, checking = dataset_questions("quantizations.q", rows, 20, 1)
    assert len(calibrating) == 20 and len(checking) == 30
    assert not {r["question"] for r in calibrating} & {r["question"] for r in checking}
    assert dataset_questions("quantizations.q", rows, 20, 1)[0] == calibrating
    with pytest.raises(ModelError, match=r"^quantizations\.q\.dataset: 50 questions are too few for 45 .*samples"):
        dataset_questions("quantizations.q", rows, 45, 1)


def test_texts_with_reasoning_are_the_models_own_and_plain_ones_have_none() -> None:
    question = {"gold": "42"}

    def complete(prompts: Sequence[str]) -> list[str]:
        return [f"a={n} </think> 42" for n in range(len(prompts))]

    prompts = ["Q?<think>\n", "R?<think>\n"]
    assert texts("reasoning", prompts, [question] * 2, complete) == [
        "Q?<think>\na=0 </think> 42",
        prompts[1] + "a=1 </think> 42",
    ]
    assert texts("plain", prompts, [question] * 2, complete)[0] == plain_text(prompts[0], question)
    assert plain_text("Q?<think>\n", question) == "Q?<think>\n\n</think>\nThe answer is \\boxed{42}."
    assert plain_text("Q?", question) == "Q?The answer is \\boxed{42}."
    assert digest(["ab", "c"]) != digest(["a", "bc"])


# The checks.


def test_a_layer_counts_with_its_scales_and_embeddings_do_not() -> None:
    size = sizes("k", BEFORE, KEPT | PACKED, METHODS["gptq-int4"].ratio or 0)
    expected = 512 * 32 * 4 + 512 * 2 * 2 + 16
    assert size == {
        **{"layers": 1, "kept": 0, "bytes": expected, "bf16_bytes": 2 * 512 * 256},
        **{"ratio": round(expected / (2 * 512 * 256), 4), "expected_ratio": 0.2578},
    }


@pytest.mark.parametrize(
    ("after", "ratio", "problem"),
    [
        (BEFORE, 0.5, "none of 3 weight matrices is quantized"),
        (KEPT | PACKED, 0.5, r"0\.258 of the 262144 in bf16; expected about 0\.500 for its method"),
        (KEPT | {"model.layers.0.mlp.up_proj.weight": tensor("I8", 512, 256)}, 0.25, r"0\.500 of the"),
    ],
)
def test_a_checkpoint_that_has_not_shrunk_as_its_method_says_is_refused(
    after: dict[str, Any], ratio: float, problem: str
) -> None:
    with pytest.raises(ModelError, match=problem):
        sizes("k", BEFORE, after, ratio)


def test_answers_are_compared_where_bf16_has_one() -> None:
    bf16 = [r"x </think> \boxed{1}", r"\boxed{2}", "no idea", r"\boxed{4}"]
    quantized = [r"y </think> \boxed{1}", r"\boxed{3}", r"\boxed{9}", r"\boxed{4}"]
    assert agreement("k", ["number"] * 4, quantized, bf16) == {
        **{"asked": 4, "answered": 3, "equal_answers": 0.6667, "equal_texts": 0.25}
    }
    assert agreement("k", ["number"], ["a"], ["b"])["equal_answers"] is None


def test_a_model_that_no_longer_answers_as_bf16_does_is_refused() -> None:
    bf16 = [rf"\boxed{{{n}}}" for n in range(10)]
    with pytest.raises(ModelError, match=r"^k: of 10 held-out questions .* same greedy answer to 1, fewer than 20%"):
        agreement("k", ["number"] * 10, [bf16[0], *["noise"] * 9], bf16)
