"""Quantizes a checkpoint and asks both models: `python -m rllm_serving.quantization.worker job.json`.

Runs in the environment of llmcompressor. job.json: model and out (folders), scheme (null: `out` is there already and
only checked), modifier ("rtn", "gptq", "awq"), calibration (kind of texts; null: none), questions and held_out (rows
with prompt, gold, kind), longest (tokens of a text), sampling (temperature, top_p), trust_remote_code, thinking (the
chat template's enable_thinking; null: not given), device, seed, answers (file to write: bf16 and quantized, the outputs
for held_out, calibration, versions, seconds).
"""

from __future__ import annotations

import json
import platform
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import transformers

from rllm_serving.quantization.calibration import digest, texts

BATCH_SIZE = 32
"""Prompts of one call of `generate`."""
UNQUANTIZED_LAYERS = ("lm_head",)
"""Layers that stay in bf16, as in every published recipe: the first and the last cost much accuracy for few bytes."""
TOOLS = ("llmcompressor", "compressed-tensors", "torch", "transformers")
NOT_COPIED = ("config.json", "training.json", "model.safetensors.index.json")
"""What describes the bf16 weights; the rest (tokenizer, chat template, generation settings) goes along."""


class Generator:
    """A loaded model that continues prompts."""

    def __init__(self, folder: str, job: Mapping[str, Any]) -> None:
        trust = {"trust_remote_code": job["trust_remote_code"]}
        self.variables = {} if job["thinking"] is None else {"enable_thinking": job["thinking"]}
        # Of the bf16 checkpoint for both, which was compared with its file; what a quantized one brings was not, here.
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(job["model"], padding_side="left", **trust)
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        # A large model takes all GPUs of the job, and what is left over of it the host's memory.
        placement = {"device_map": "auto"} if job["device"] == "cuda" else {}
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, **placement, **trust)
        self.model = model.eval()
        # A checkpoint's own settings (repetition_penalty 1.05 and top_k 20 of Qwen2.5) would shape its texts and
        # answers: engines are told not to take them either. What ends a text stays.
        own = model.generation_config
        self.model.generation_config = transformers.GenerationConfig(
            eos_token_id=own.eos_token_id, bos_token_id=own.bos_token_id, pad_token_id=own.pad_token_id
        )

    def prompt(self, content: str) -> str:
        """Return the whole prompt of a question, as servers render it."""
        messages = [{"role": "user", "content": content}]
        return str(
            self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False, **self.variables)
        )

    @torch.inference_mode()
    def complete(self, prompts: Sequence[str], longest: int, **sampling: Any) -> list[str]:
        """Continue every prompt to its end, or to `longest` tokens of prompt and output together."""
        outputs: list[str] = []
        for start in range(0, len(prompts), BATCH_SIZE):
            batch = self.tokenizer(
                list(prompts[start : start + BATCH_SIZE]), return_tensors="pt", padding=True, add_special_tokens=False
            ).to(self.model.device)
            prompt_tokens = batch["input_ids"].shape[1]
            out = self.model.generate(
                **{name: batch[name] for name in ("input_ids", "attention_mask")},
                max_new_tokens=max(1, longest - prompt_tokens),
                pad_token_id=self.tokenizer.pad_token_id,
                **sampling,
            )
            ends = {self.tokenizer.pad_token, self.tokenizer.eos_token}
            for text in self.tokenizer.batch_decode(out[:, prompt_tokens:], skip_special_tokens=False):
                # Thinking tags are special tokens in some tokenizers, so only what ends a text is cut off.
                outputs.append(text[: min((text.find(end) for end in ends if end and end in text), default=None)])
        return outputs


def sampled(sampling: Mapping[str, float]) -> dict[str, Any]:
    """Return the study's sampling as arguments of `generate`: temperature 0 means `do_sample=False` there."""
    return {"do_sample": True, "top_k": 0, **sampling} if sampling["temperature"] > 0 else {"do_sample": False}


def recipe(modifier: str, scheme: str) -> list[Any]:
    """Return llmcompressor's modifiers for a scheme."""
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.transform.awq import AWQModifier
    from llmcompressor.pipelines.cache import IntermediatesCache

    if not torch.accelerator.is_available():
        # AWQ page-locks its texts for transfer to a device, which torch refuses to do without one.
        IntermediatesCache.pin_memory = lambda *_: None
    layers = {"targets": ["Linear"], "scheme": scheme, "ignore": list(UNQUANTIZED_LAYERS)}
    match modifier:
        case "gptq":
            return [GPTQModifier(**layers)]
        case "awq":
            return [AWQModifier(), QuantizationModifier(**layers)]
    return [QuantizationModifier(**layers)]


def quantize(job: Mapping[str, Any], generator: Generator, rows: Sequence[str]) -> int:
    """Quantize the generator's model in place, write it to the job's folder, and return the tokens of the texts."""
    import datasets
    from llmcompressor import oneshot

    data: dict[str, Any] = {}
    tokens = 0
    if rows:
        encoded = [generator.tokenizer(text, add_special_tokens=False)["input_ids"][: job["longest"]] for text in rows]
        tokens = sum(map(len, encoded))
        data = {
            "dataset": datasets.Dataset.from_dict(
                {"input_ids": encoded, "attention_mask": [[1] * len(ids) for ids in encoded]}
            ),
            "num_calibration_samples": len(encoded),
            "max_seq_length": job["longest"],
            "shuffle_calibration_samples": False,
        }
    oneshot(model=generator.model, recipe=recipe(job["modifier"], job["scheme"]), **data)
    generator.model.save_pretrained(job["out"], save_compressed=True)
    for file in Path(job["model"]).iterdir():
        if file.is_file() and file.suffix != ".safetensors" and file.name not in NOT_COPIED and file.name[0] != ".":
            shutil.copyfile(file, Path(job["out"]) / file.name)
    return tokens


def make(job: Mapping[str, Any]) -> dict[str, Any]:
    """Ask the bf16 model the held-out questions and, unless it is there already, write the quantized one.

    The model is freed when this returns: a device need not hold two.

    Returns:
        bf16 (outputs), calibration (description of the texts, null if none), seconds (of quantizing).
    """
    generator = Generator(job["model"], job)
    report: dict[str, Any] = {"calibration": None, "seconds": None}
    report["bf16"] = generator.complete(held_out(job, generator), job["longest"], do_sample=False)
    if job["scheme"] is None:
        return report
    rows: list[str] = []
    if job["calibration"] is not None:
        prompts = [generator.prompt(row["prompt"]) for row in job["questions"]]
        print(f"{len(prompts)} calibration texts ({job['calibration']})", flush=True)
        rows = texts(
            job["calibration"],
            prompts,
            job["questions"],
            lambda batch: generator.complete(batch, job["longest"], **sampled(job["sampling"])),
        )
    started = time.monotonic()
    tokens = quantize(job, generator, rows)
    report["seconds"] = round(time.monotonic() - started, 1)
    if rows:
        calibration = {"kind": job["calibration"], "texts": len(rows), "tokens": tokens, "seed": job["seed"]}
        report["calibration"] = calibration | {"sha256": digest(rows)}
    return report


def held_out(job: Mapping[str, Any], generator: Generator) -> list[str]:
    """Return the whole prompts of the held-out questions."""
    return [generator.prompt(row["prompt"]) for row in job["held_out"]]


def main() -> None:
    """Run the job and write its answers."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.manual_seed(job["seed"])
    report = make(job)
    generator = Generator(job["out"], job)
    report["quantized"] = generator.complete(held_out(job, generator), job["longest"], do_sample=False)
    report["versions"] = {"python": platform.python_version(), **{tool: version(tool) for tool in TOOLS}}
    Path(job["answers"]).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
