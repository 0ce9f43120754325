import json
import random
from pathlib import Path

import jinja2
import pytest
from rllm_serving.datasets.micro_facts import FACTS
from rllm_serving.datasets.micro_questions import SUITES, generate
from rllm_serving.datasets.prompts import render
from rllm_serving.models import micro_tokenizer
from rllm_serving.models.micro_solutions import END_THINK, THINK, plain_text, reasoning_text
from tokenizers import Tokenizer

PROMPTS = Path(__file__).parents[3] / "resources" / "prompts"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return micro_tokenizer.build()


def ask(content: str, thinks: bool, generation: bool = True) -> str:
    chat = jinja2.Environment().from_string(micro_tokenizer.chat_template(thinks))
    return chat.render(messages=[{"role": "user", "content": content}], add_generation_prompt=generation)


def test_chat_template_opens_the_thinking_of_the_reasoning_model_only() -> None:
    assert ask("Hi", thinks=True) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n"
    assert ask("Hi", thinks=False) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert ask("Hi", thinks=True, generation=False) == "<|im_start|>user\nHi<|im_end|>\n"


def test_prompts_show_the_question_and_each_option_behind_its_letter() -> None:
    assert render(PROMPTS / "arith.jinja", "Let a=1 . What is a?") == "Let a=1 . What is a?"
    asked = render(PROMPTS / "facts.jinja", "Name it.", ["Rome", "Oslo", "Lima", "Paris"])
    assert asked == "Name it. (A) Rome (B) Oslo (C) Lima (D) Paris"


def test_text_survives_the_tokenizer(tokenizer: Tokenizer) -> None:
    rng = random.Random(0)
    texts = [
        text
        for suite in SUITES
        for question in generate(suite, 20, 0, "train")
        for text in (ask(question.question, True), plain_text(question), reasoning_text(question, rng))
    ]
    for text in [*texts, "é 漢字 \t\n\n  12345 +12"]:
        assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_names_and_letters_are_single_tokens_and_digits_stand_alone(tokenizer: Tokenizer) -> None:
    for fact in FACTS:
        assert len(tokenizer.encode(f" {fact.value}").ids) == 1
    assert tokenizer.encode(" (A) Rome (B) Oslo").tokens == ["Ġ(A)", "ĠRome", "Ġ(B)", "ĠOslo"]
    assert tokenizer.encode("b=4712").tokens[-4:] == ["4", "7", "1", "2"]
    assert tokenizer.encode(" c=b+12").tokens == ["Ġc=", "b", "+", "1", "2"]
    assert tokenizer.encode(" c=b+1=48").tokens == ["Ġc=", "b", "+1", "=", "4", "8"]


def test_thinking_tags_are_single_tokens_that_are_kept_when_special_ones_are_skipped(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(f"{micro_tokenizer.START}x\n{THINK}\ny\n{END_THINK}{micro_tokenizer.END}").ids
    assert tokenizer.token_to_id(THINK) in ids
    assert tokenizer.token_to_id(END_THINK) in ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == f"x\n{THINK}\ny\n{END_THINK}"


def test_saved_files_carry_the_template_and_the_special_tokens(tokenizer: Tokenizer, tmp_path: Path) -> None:
    micro_tokenizer.save(tokenizer, tmp_path, thinks=True)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert (config["eos_token"], config["pad_token"]) == (micro_tokenizer.END, micro_tokenizer.PAD)
    assert config["chat_template"] == (tmp_path / "chat_template.jinja").read_text()
    added = {t["content"]: t["special"] for t in json.loads((tmp_path / "tokenizer.json").read_text())["added_tokens"]}
    assert added == {
        micro_tokenizer.PAD: True,
        micro_tokenizer.START: True,
        micro_tokenizer.END: True,
        THINK: False,
        END_THINK: False,
    }
    assert tokenizer.get_vocab_size() <= micro_tokenizer.VOCABULARY


def test_every_build_is_the_same(tokenizer: Tokenizer) -> None:
    assert micro_tokenizer.build().to_str() == tokenizer.to_str()
