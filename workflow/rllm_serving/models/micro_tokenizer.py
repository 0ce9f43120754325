"""The tokenizer that all micro models share: byte-level BPE, single digits, single-token names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rllm_serving.datasets.micro_facts import FACTS
from rllm_serving.models.micro_solutions import END_THINK, THINK

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
VOCABULARY = 768
MAX_LENGTH = 2048
# Pieces that merges never cross: what stands in a step (` b=`, a digit, a sign), an option's letter, a word.
_PIECES = r"[+-]\d(?!\d)| ?\\boxed\{| ?[a-z]=| \([A-Z]\)|\d| ?[A-Za-z]+|\n+| ?[^\sA-Za-z\d]|\s"
# The rest of the text that is learnt; every word here and in the facts becomes a single token.
_PHRASES = (
    "user\nassistant\nsystem\nLet\nName\nSo\nThe answer is \\boxed{ What is . : Check:"
    + " ".join(f" {letter}=" for letter in "abcdefghijklmnopqrstuvwxyz")
    + "".join(f"{sign}{digit} " for sign in "+-" for digit in "123456789")
    + "".join(f" ({letter})" for letter in "ABCDEFGHIJ")
)


def chat_template(thinks: bool) -> str:
    """Return the chat template (jinja): the generation prompt of a model that thinks opens the thinking."""
    opening = f"assistant\n{THINK}\n" if thinks else "assistant\n"
    return (
        "{%- for message in messages -%}"
        f"{{{{- '{START}' + message.role + '\\n' + message.content + '{END}\\n' -}}}}"
        "{%- endfor -%}"
        f"{{%- if add_generation_prompt -%}}{{{{- {(START + opening)!r} -}}}}{{%- endif -%}}"
    )


def build() -> Any:
    """Return the tokenizer (a `tokenizers.Tokenizer`), the same on every call.

    Raises:
        ValueError: when a fact's name is not a single token (the vocabulary is too small).
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 5,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    corpus = [_PHRASES, *(f" {fact.statement} {fact.question}" for fact in FACTS)]
    tokenizer.train_from_iterator(corpus, trainer)
    # As in Qwen3: the thinking tags are no special tokens, or SGLang drops them before its parser sees them.
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in (PAD, START, END)])
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in (THINK, END_THINK)])
    for name in (name for fact in FACTS for name in (fact.key, fact.value)):
        if len(tokenizer.encode(f" {name}").ids) != 1:
            raise ValueError(f"{name!r} is more than one token: raise VOCABULARY")
    return tokenizer


def save(tokenizer: Any, folder: Path, thinks: bool) -> None:
    """Write tokenizer.json, tokenizer_config.json and chat_template.jinja as transformers reads them."""
    tokenizer.save(str(folder / "tokenizer.json"))
    template = chat_template(thinks)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "pad_token": PAD,
        "model_max_length": MAX_LENGTH,
        "clean_up_tokenization_spaces": False,
        "chat_template": template,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "chat_template.jinja").write_text(template)
