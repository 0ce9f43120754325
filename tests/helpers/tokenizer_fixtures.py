"""Checkpoints that say they have a Llama tokenizer while the file is a byte-level one, as DeepSeek's Llamas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

BEGIN, END, USER = "<|begin|>", "<|end|>", "<|user|>"
TAGS = ("<think>", "</think>")


def byte_level(special_tags: bool = False, pieces: str | None = None) -> Tokenizer:
    """A small byte-level BPE; pieces: regular expression of what merges never cross, in place of GPT-2's."""
    tokenizer = Tokenizer(models.BPE())
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pieces is None)
    split = [] if pieces is None else [pre_tokenizers.Split(Regex(pieces), behavior="isolated")]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*split, whole]) if split else whole
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(["let me think of the answer and so on 12 345 10 100"] * 3, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in (BEGIN, END, USER)])
    tags = [AddedToken(tag, special=special_tags, normalized=False) for tag in TAGS]
    (tokenizer.add_special_tokens if special_tags else tokenizer.add_tokens)(tags)
    return tokenizer


def template(asks_for_the_time: bool = False) -> str:
    """A chat template, which may put the day into each prompt."""
    day = "{{ strftime_now('%d %b %Y') }}\n" if asks_for_the_time else ""
    return (
        f"{{{{ bos_token }}}}{day}{{% for message in messages %}}{USER}{{{{ message.content }}}}{{% endfor %}}"
        "{% if add_generation_prompt %}<think>\n{% endif %}"
    )


def checkpoint(
    folder: Path,
    tokenizer: Tokenizer,
    chat_template: str | None = None,
    tokenizer_class: str = "LlamaTokenizerFast",
    model_type: str = "llama",
) -> Path:
    """Write what a checkpoint's tokenizer is read from, and model.json beside it; returns the folder."""
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config: dict[str, Any] = {"tokenizer_class": tokenizer_class, "bos_token": BEGIN, "eos_token": END}
    config |= {"add_bos_token": True, "chat_template": template() if chat_template is None else chat_template}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 4, "num_hidden_layers": 1}
    (folder / "config.json").write_text(json.dumps({"model_type": model_type, "vocab_size": 512, **sizes}))
    (folder / "model.safetensors").write_bytes(b"weights")
    folder.with_suffix(".json").write_text(json.dumps({"path": str(folder), "bytes": 7}))
    return folder
