"""Quantizes a checkpoint and asks both models: `python -m rllm_serving.quantization.worker job.json`.

Runs in the environment of llmcompressor. job.json: model and out (folders), scheme (null: `out` is there already and
only checked), modifier ("rtn", "gptq", "awq"), calibration (kind of texts; null: none), questions and held_out (rows
with prompt, gold, kind), longest (tokens of a text), sampling (temperature, top_p), trust_remote_code, thinking (what
the chat template is told of it; null: nothing), device, seed, answers (file to write: bf16 and quantized, the outputs
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

AT_ONCE = 32
"""Prompts that are generated for together."""
UNQUANTIZED_LAYERS = ("lm_head",)
"""Layers that stay in bf16, as in every published recipe: the first and the last cost much accuracy for few bytes."""
TOOLS = ("llmcompressor", "compressed-tensors", "torch", "transformers")
NOT_COPIED = ("config.json", "training.json", "model.safetensors.index.json")
"""What describes the bf16 weights; the rest (tokenizer, chat template, generation settings) goes along."""


class Generator:
    """A loaded model that continues prompts."""

    def __init__(self, folder: str, job: Mapping[str, Any]) -> None:
        trusted = {"trust_remote_code": job["trust_remote_code"]}
        self.variables = {} if job["thinking"] is None else {"enable_thinking": job["thinking"]}
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder, padding_side="left", **trusted)
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        # A large model takes all GPUs of the job, and what is left over of it the host's memory.
        placed = {"device_map": "auto"} if job["device"] == "cuda" else {}
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, **placed, **trusted)
        self.model = model.eval()

    def prompt(self, content: str) -> str:
        """The whole prompt of a question, as servers render it."""
        messages = [{"role": "user", "content": content}]
        return str(
            self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False, **self.variables)
        )

    @torch.inference_mode()
    def complete(self, prompts: Sequence[str], longest: int, **sampling: Any) -> list[str]:
        """Continue every prompt to its end, or to `longest` tokens of prompt and output together."""
        outputs: list[str] = []
        for start in range(0, len(prompts), AT_ONCE):
            batch = self.tokenizer(
                list(prompts[start : start + AT_ONCE]), return_tensors="pt", padding=True, add_special_tokens=False
            ).to(self.model.device)
            asked = batch["input_ids"].shape[1]
            out = self.model.generate(
                **{name: batch[name] for name in ("input_ids", "attention_mask")},
                max_new_tokens=max(1, longest - asked),
                pad_token_id=self.tokenizer.pad_token_id,
                **sampling,
            )
            ends = {self.tokenizer.pad_token, self.tokenizer.eos_token}
            for text in self.tokenizer.batch_decode(out[:, asked:], skip_special_tokens=False):
                # Thinking tags are special tokens in some tokenizers, so only what ends a text is cut off.
                outputs.append(text[: min((text.find(end) for end in ends if end and end in text), default=None)])
        return outputs


def sampled(sampling: Mapping[str, float]) -> dict[str, Any]:
    """The study's sampling in the words of `generate`, which knows greedy decoding under another name."""
    return {"do_sample": True, "top_k": 0, **sampling} if sampling["temperature"] > 0 else {"do_sample": False}


def recipe(modifier: str, scheme: str) -> list[Any]:
    """The modifiers of llmcompressor for a scheme."""
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.transform.awq import AWQModifier
    from llmcompressor.pipelines.cache import IntermediatesCache

    if not torch.accelerator.is_available():
        # AWQ page-locks its texts for a device to fetch them; without a device torch refuses to, and none would.
        IntermediatesCache.pin_memory = lambda *_: None
    layers = {"targets": ["Linear"], "scheme": scheme, "ignore": list(UNQUANTIZED_LAYERS)}
    match modifier:
        case "gptq":
            return [GPTQModifier(**layers)]
        case "awq":
            return [AWQModifier(), QuantizationModifier(**layers)]
    return [QuantizationModifier(**layers)]


def quantize(job: Mapping[str, Any], speaker: Generator, rows: Sequence[str]) -> int:
    """Quantize the speaker's model in place and write it to the job's folder; returns the tokens of the texts."""
    import datasets
    from llmcompressor import oneshot

    data: dict[str, Any] = {}
    tokens = 0
    if rows:
        encoded = [speaker.tokenizer(text, add_special_tokens=False)["input_ids"][: job["longest"]] for text in rows]
        tokens = sum(map(len, encoded))
        data = {
            "dataset": datasets.Dataset.from_dict(
                {"input_ids": encoded, "attention_mask": [[1] * len(ids) for ids in encoded]}
            ),
            "num_calibration_samples": len(encoded),
            "max_seq_length": job["longest"],
            "shuffle_calibration_samples": False,
        }
    oneshot(model=speaker.model, recipe=recipe(job["modifier"], job["scheme"]), **data)
    speaker.model.save_pretrained(job["out"], save_compressed=True)
    for file in Path(job["model"]).iterdir():
        if file.is_file() and file.suffix != ".safetensors" and file.name not in NOT_COPIED and file.name[0] != ".":
            shutil.copyfile(file, Path(job["out"]) / file.name)
    return tokens


def make(job: Mapping[str, Any]) -> dict[str, Any]:
    """Ask the bf16 model the held-out questions and, unless it is there already, write the quantized one.

    Returns bf16 (outputs), calibration (what the texts were, null if none), seconds (of quantizing). The model is
    gone from memory when this ends: a device need not hold two.
    """
    speaker = Generator(job["model"], job)
    found: dict[str, Any] = {"calibration": None, "seconds": None}
    found["bf16"] = speaker.complete(held_out(job, speaker), job["longest"], do_sample=False)
    if job["scheme"] is None:
        return found
    rows: list[str] = []
    if job["calibration"] is not None:
        prompts = [speaker.prompt(row["prompt"]) for row in job["questions"]]
        print(f"{len(prompts)} calibration texts ({job['calibration']})", flush=True)
        rows = texts(
            job["calibration"],
            prompts,
            job["questions"],
            lambda wanted: speaker.complete(wanted, job["longest"], **sampled(job["sampling"])),
        )
    started = time.monotonic()
    tokens = quantize(job, speaker, rows)
    found["seconds"] = round(time.monotonic() - started, 1)
    if rows:
        told = {"kind": job["calibration"], "texts": len(rows), "tokens": tokens, "seed": job["seed"]}
        found["calibration"] = told | {"sha256": digest(rows)}
    return found


def held_out(job: Mapping[str, Any], speaker: Generator) -> list[str]:
    """Whole prompts of the questions that both models are asked."""
    return [speaker.prompt(row["prompt"]) for row in job["held_out"]]


def main() -> None:
    """Do what the job says and write its answers."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.manual_seed(job["seed"])
    found = make(job)
    speaker = Generator(job["out"], job)
    found["quantized"] = speaker.complete(held_out(job, speaker), job["longest"], do_sample=False)
    found["versions"] = {"python": platform.python_version(), **{tool: version(tool) for tool in TOOLS}}
    Path(job["answers"]).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
