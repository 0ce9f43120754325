"""Trains one micro model on one CPU core: `python -m rllm_serving.models.micro_training --role rllm ...`."""

from __future__ import annotations

import argparse
import json
import platform
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jinja2
import torch
import transformers
from torch.overrides import TorchFunctionMode

from rllm_serving.datasets.micro_questions import SUITES, Question, generate
from rllm_serving.datasets.prompts import render
from rllm_serving.models import micro_tokenizer
from rllm_serving.models.micro_recipes import RECIPES, ModelConfig, TrainingStage
from rllm_serving.models.micro_solutions import boxed, plain_text, reasoning_text

HEAD_SIZE = 64
# Short sequences: a small base tells near positions apart better than the usual 10,000 and more.
ROPE_BASE = 100.0
MUON_RATE, ADAM_RATE = 0.02, 3e-3
IGNORED = -100
# Greedy check after training.
TEST_SEED, TEST_COUNT, LONGEST_ANSWER = 0, 50, 400
Batch = tuple[torch.Tensor, torch.Tensor]
# Questions drawn at once: sorted by length they fill steps with little padding.
POOL = 512


class Prompts:
    """Renders and tokenises questions exactly as they are served: prompt template, then chat template."""

    def __init__(self, folder: Path, tokenizer: Any, thinks: bool) -> None:
        self._files = {"number": folder / "arith.jinja", "choice": folder / "facts.jinja"}
        self._chat = jinja2.Environment(autoescape=False).from_string(micro_tokenizer.chat_template(thinks))
        self._tokenizer = tokenizer
        self._thinks = thinks
        self._end = tokenizer.token_to_id(micro_tokenizer.END)

    def prompt(self, question: Question) -> list[int]:
        """Return the token ids of a question's whole prompt."""
        content = render(self._files[question.kind], question.question, question.choices)
        messages = [{"role": "user", "content": content}]
        return list(self._tokenizer.encode(self._chat.render(messages=messages, add_generation_prompt=True)).ids)

    def example(self, question: Question, rng: random.Random) -> tuple[list[int], list[int]]:
        """Return token ids of prompt and output, and the labels: only the output is learnt."""
        prompt = self.prompt(question)
        text = reasoning_text(question, rng) if self._thinks else plain_text(question)
        output = [*self._tokenizer.encode(text).ids, self._end]
        return prompt + output, [IGNORED] * len(prompt) + output


def batches(prompts: Prompts, stages: Sequence[TrainingStage], pad: int, seed: int) -> Iterator[Batch]:
    """Yield token ids and labels of every step, [examples, longest] each, examples of similar length together."""
    pool = 0
    for stage in stages:
        groups: list[list[tuple[list[int], list[int]]]] = []
        for _ in range(stage.steps):
            if not groups:
                pool += 1
                groups = _groups(prompts, stage, f"{seed}/{pool}")
            group = groups.pop()
            longest = max(len(ids) for ids, _ in group)
            yield (
                torch.tensor([ids + [pad] * (longest - len(ids)) for ids, _ in group]),
                torch.tensor([labels + [IGNORED] * (longest - len(labels)) for _, labels in group]),
            )


def _groups(prompts: Prompts, stage: TrainingStage, seed: str) -> list[list[tuple[list[int], list[int]]]]:
    rng = random.Random(seed)
    examples = [
        prompts.example(question, rng)
        for suite, share in zip(SUITES, stage.mix, strict=True)
        for question in generate(suite, round(POOL * share), rng.getrandbits(32), "train")
    ]
    examples.sort(key=lambda example: len(example[0]))
    groups: list[list[tuple[list[int], list[int]]]] = [[]]
    for example in examples:
        if groups[-1] and (len(groups[-1]) + 1) * len(example[0]) > stage.step_tokens:
            groups.append([])
        groups[-1].append(example)
    rng.shuffle(groups)
    return groups


def new_model(recipe: ModelConfig, tokenizer: Any) -> Any:
    """Return an untrained Qwen3 of the recipe's size."""
    config = transformers.Qwen3Config(
        vocab_size=micro_tokenizer.VOCABULARY,
        hidden_size=recipe.heads * HEAD_SIZE,
        intermediate_size=recipe.intermediate,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads // 2,
        head_dim=HEAD_SIZE,
        max_position_embeddings=micro_tokenizer.MAX_LENGTH,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_BASE},
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.token_to_id(micro_tokenizer.END),
        pad_token_id=tokenizer.token_to_id(micro_tokenizer.PAD),
    )
    # Plain attention is a sixth faster than the fused one here: the sequences are short.
    config._attn_implementation = "eager"
    model = transformers.Qwen3ForCausalLM(config)
    # With the usual 0.02 what the layers add soon drowns which token it was.
    torch.nn.init.normal_(model.model.embed_tokens.weight, std=1.0)
    return model


def train(model: Any, stream: Iterator[Batch], steps: int) -> dict[str, Any]:
    """Train a model in place on a stream of `steps` batches.

    Returns:
        steps, tokens (padding included), seconds, and losses {step: mean loss since the report before}.
    """
    inner = {p for name, p in model.named_parameters() if p.ndim == 2 and "layers." in name}
    optimizers = [
        torch.optim.Muon([p for p in model.parameters() if p in inner], lr=MUON_RATE, weight_decay=0.0),
        torch.optim.AdamW(
            [p for p in model.parameters() if p not in inner], lr=ADAM_RATE, betas=(0.9, 0.95), weight_decay=0.0
        ),
    ]
    warmup_steps = max(1, min(20, steps // 10))
    # Up quickly, level, and down to zero over the second half.
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(o, lambda done: min(1.0, (done + 1) / warmup_steps, 2 * (1 - done / steps)))
        for o in optimizers
    ]
    in_float32 = precision() == "float32"
    tokens, losses, recent, started = 0, {}, [], time.monotonic()
    model.train()
    for step, (ids, labels) in enumerate(stream, 1):
        tokens += ids.numel()
        targets = labels[:, 1:]
        learnt = targets != IGNORED
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=not in_float32):
            hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]
            logits = model.lm_head(hidden[learnt])
        loss = torch.nn.functional.cross_entropy(logits.float(), targets[learnt])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        with InFloat32() if in_float32 else nullcontext():
            for optimizer, schedule in zip(optimizers, schedules, strict=True):
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
        recent.append(loss.item())
        if step == steps or step % max(1, steps // 20) == 0:
            elapsed = time.monotonic() - started
            losses[step] = round(sum(recent) / len(recent), 4)
            recent = []
            remaining = elapsed / step * (steps - step)
            print(f"step {step}/{steps}  loss {losses[step]:.3f}  about {remaining:.0f} s left", flush=True)
    return {"steps": steps, "tokens": tokens, "losses": losses, "seconds": round(time.monotonic() - started, 1)}


def precision() -> str:
    """Return the precision of matrix products: "bfloat16" where the CPU supports it, else "float32".

    Without AVX-512 PyTorch multiplies bfloat16 one number at a time: forty times slower than float32.
    """
    return "bfloat16" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "float32"


class InFloat32(TorchFunctionMode):
    """Context in which a conversion to bfloat16 gives a float32 copy instead: Muon always asks for bfloat16."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.bfloat16:
            return args[0].clone()
        return func(*args, **(kwargs or {}))


@torch.inference_mode()
def accuracy(model: Any, prompts: Prompts, tokenizer: Any, suite: str, count: int) -> float:
    """Return the share of `count` held-out questions of a suite that greedy decoding answers right."""
    questions = generate(suite, count, TEST_SEED, "test")
    pad, end = tokenizer.token_to_id(micro_tokenizer.PAD), tokenizer.token_to_id(micro_tokenizer.END)
    rows = [prompts.prompt(question) for question in questions]
    longest = max(map(len, rows))
    ids = torch.tensor([[pad] * (longest - len(row)) + row for row in rows])
    out = model.generate(
        ids,
        attention_mask=(ids != pad).long(),
        max_new_tokens=LONGEST_ANSWER,
        do_sample=False,
        pad_token_id=pad,
        eos_token_id=end,
    )
    texts = tokenizer.decode_batch(out[:, longest:].tolist(), skip_special_tokens=True)
    right = [boxed(text) == question.gold for text, question in zip(texts, questions, strict=True)]
    return sum(right) / count


def main() -> None:
    """Train the role given on the command line and write the model's folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--role", choices=sorted(RECIPES), required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--prompts", type=Path, required=True, help="folder with arith.jinja and facts.jinja")
    parser.add_argument("--out", type=Path, required=True, help="the model's folder")
    parser.add_argument("--steps-scale", type=float, default=1.0, help="below 1: a shorter schedule, a worse model")
    arguments = parser.parse_args()
    recipe = RECIPES[arguments.role]
    stages = [replace(s, steps=max(1, round(s.steps * arguments.steps_scale))) for s in recipe.stages]
    # One thread: results do not depend on the number of cores, and two models train side by side.
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    tokenizer = micro_tokenizer.build()
    prompts = Prompts(arguments.prompts, tokenizer, recipe.thinks)
    model = new_model(recipe, tokenizer)
    stream = batches(prompts, stages, tokenizer.token_to_id(micro_tokenizer.PAD), arguments.seed)
    trained = train(model, stream, sum(stage.steps for stage in stages))
    model = model.to(torch.bfloat16).eval()
    record = {
        "role": arguments.role,
        "seed": arguments.seed,
        "steps_scale": arguments.steps_scale,
        "precision": precision(),
        "recipe": asdict(recipe),
        "parameters": sum(p.numel() for p in model.parameters()),
        **trained,
        "accuracy": {suite: accuracy(model, prompts, tokenizer, suite, TEST_COUNT) for suite in SUITES},
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }
    print("held-out accuracy, greedy:", record["accuracy"], flush=True)
    model.generation_config = transformers.GenerationConfig(
        eos_token_id=model.config.eos_token_id, pad_token_id=model.config.pad_token_id
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(arguments.out)
    micro_tokenizer.save(tokenizer, arguments.out, recipe.thinks)
    (arguments.out / "training.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
