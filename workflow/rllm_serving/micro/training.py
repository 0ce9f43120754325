"""Trains one micro model on one CPU core: `python -m rllm_serving.micro.training --role rllm ...`."""

from __future__ import annotations

import argparse
import json
import platform
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2
import torch
import transformers

from rllm_serving.micro import tokenizer as vocabulary
from rllm_serving.micro.questions import SUITES, Question, generate
from rllm_serving.micro.working import boxed, plain_text, reasoning_text


@dataclass(frozen=True)
class Recipe:
    """Sizes and schedule of one role; `mix` is the share of questions of each suite, in SUITES' order."""

    layers: int
    hidden: int
    intermediate: int
    steps: int
    step_tokens: int
    mix: tuple[float, float, float, float]
    thinks: bool = True
    muon_rate: float = 0.02
    adam_rate: float = 3e-3


RECIPES = {
    "llm": Recipe(4, 256, 768, 900, 2048, (0.5, 0.1, 0.1, 0.3), thinks=False),
    "rllm": Recipe(4, 256, 768, 500, 4096, (0.25, 0.25, 0.25, 0.25)),
    "draft": Recipe(2, 128, 384, 500, 4096, (0.25, 0.25, 0.25, 0.25)),
}
HEAD_SIZE = 64
IGNORED = -100
# Questions drawn at once: sorted by length they fill steps with little padding.
POOL = 512


class Prompts:
    """Renders and tokenises questions exactly as a server does: prompt template, then chat template."""

    def __init__(self, folder: Path, tokenizer: Any, thinks: bool) -> None:
        environment = jinja2.Environment(loader=jinja2.FileSystemLoader(folder), autoescape=False)
        self._templates = {
            kind: environment.get_template(f"{name}.jinja")
            for kind, name in (("number", "arith"), ("choice", "facts"))
        }
        self._chat = jinja2.Environment(autoescape=False).from_string(vocabulary.chat_template(thinks))
        self._tokenizer = tokenizer
        self._thinks = thinks
        self._end = tokenizer.token_to_id(vocabulary.END)

    def prompt(self, question: Question) -> list[int]:
        """Return the token ids of a question's whole prompt."""
        template = self._templates[question.kind]
        content = template.render(question=question.question, choices=list(question.choices))
        messages = [{"role": "user", "content": content}]
        return self._tokenizer.encode(self._chat.render(messages=messages, add_generation_prompt=True)).ids

    def example(self, question: Question, rng: random.Random) -> tuple[list[int], list[int]]:
        """Return token ids of prompt and output, and the labels: only the output is learnt."""
        prompt = self.prompt(question)
        text = reasoning_text(question, rng) if self._thinks else plain_text(question)
        output = [*self._tokenizer.encode(text).ids, self._end]
        return prompt + output, [IGNORED] * len(prompt) + output


def batches(prompts: Prompts, recipe: Recipe, pad: int, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield token ids and labels without end, about `step_tokens` a batch, examples of like length together."""
    pool = 0
    while True:
        rng = random.Random(f"pool/{seed}/{pool}")
        examples = [
            prompts.example(question, rng)
            for suite, share in zip(SUITES, recipe.mix, strict=True)
            for question in generate(suite, round(POOL * share), seed + 7919 * pool, "train")
        ]
        examples.sort(key=lambda example: len(example[0]))
        grouped: list[list[tuple[list[int], list[int]]]] = [[]]
        for example in examples:
            if grouped[-1] and (len(grouped[-1]) + 1) * len(example[0]) > recipe.step_tokens:
                grouped.append([])
            grouped[-1].append(example)
        rng.shuffle(grouped)
        for group in grouped:
            longest = max(len(ids) for ids, _ in group)
            yield (
                torch.tensor([ids + [pad] * (longest - len(ids)) for ids, _ in group]),
                torch.tensor([labels + [IGNORED] * (longest - len(labels)) for _, labels in group]),
            )
        pool += 1


def new_model(recipe: Recipe, tokenizer: Any) -> Any:
    """Return an untrained Qwen3 of the recipe's size."""
    config = transformers.Qwen3Config(
        vocab_size=vocabulary.VOCABULARY,
        hidden_size=recipe.hidden,
        intermediate_size=recipe.intermediate,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.hidden // HEAD_SIZE,
        num_key_value_heads=recipe.hidden // HEAD_SIZE // 2,
        head_dim=HEAD_SIZE,
        max_position_embeddings=vocabulary.LONGEST,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.token_to_id(vocabulary.END),
        pad_token_id=tokenizer.token_to_id(vocabulary.PAD),
    )
    # Plain attention is a sixth faster than the fused one here: the sequences are short.
    config._attn_implementation = "eager"
    return transformers.Qwen3ForCausalLM(config)


def train(model: Any, stream: Iterator[tuple[torch.Tensor, torch.Tensor]], recipe: Recipe, steps: int) -> dict:
    """Train in place for `steps` steps; return tokens seen, seconds, and the loss every tenth of the way."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "layers." in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "layers." not in name]
    optimizers = [
        torch.optim.Muon(matrices, lr=recipe.muon_rate, weight_decay=0.0),
        torch.optim.AdamW(others, lr=recipe.adam_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    warm = max(1, min(20, steps // 10))
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(o, lambda s: min(1.0, (s + 1) / warm, 2 * (steps - s) / steps))
        for o in optimizers
    ]
    tokens, losses, recent, started = 0, {}, [], time.monotonic()
    model.train()
    for step in range(1, steps + 1):
        ids, labels = next(stream)
        tokens += ids.numel()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]
            wanted = labels[:, 1:]
            learnt = wanted != IGNORED
            logits = model.lm_head(hidden[learnt])
        loss = torch.nn.functional.cross_entropy(logits.float(), wanted[learnt])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        recent.append(loss.item())
        if step == steps or step % max(1, steps // 20) == 0:
            spent = time.monotonic() - started
            losses[step] = round(sum(recent) / len(recent), 4)
            recent = []
            left = spent / step * (steps - step)
            print(f"step {step}/{steps}  loss {losses[step]:.3f}  {tokens / spent:,.0f} tokens/s  {left:.0f} s left", flush=True)
    return {"tokens": tokens, "losses": losses, "train_seconds": round(time.monotonic() - started, 1)}
