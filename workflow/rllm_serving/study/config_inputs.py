"""Sections of the config about what is served and asked: models, datasets, quantizations, traces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from .config_base import Commit, Count, HubId, Name, Rule, Section, Text, key
from .config_options import Serving

Format = Literal["gsm8k", "math500", "aime2024", "gpqa", "supergpqa", "humaneval"]
Suite = Literal["arith-easy", "arith-medium", "arith-hard", "facts-mcq"]
Method = Literal[
    "bf16",
    "fp8",
    "int8",
    "gptq-int4",
    "awq-int4",
    "bnb-nf4",
    "torchao-int8-weight",
    "torchao-int8-dynamic",
    "torchao-fp8-weight",
]


class Model(Section):
    """A model that is served."""

    source: Literal["hub", "path", "micro", "served"]
    """Hugging Face hub, a local folder, trained by the workflow, or on servers that already run alone: there is no
    checkpoint here"""
    role: Literal["llm", "rllm", "draft"]
    """plain model, reasoning model, or small model for speculative decoding, which is not measured by itself"""
    pair: Name = key(
        allowed="the same name for an llm and the rllm that it is compared with",
        shown="required for llm and rllm, but for the only one of a study",
    )
    """a pair is one llm and one rllm"""
    reasoning_parser: Literal["deepseek-r1", "qwen3"] = key()
    """how the engine tells thinking from answer"""
    serving: Serving = key(shown="`{}`", allowed="as `serving` above")
    """options of this model's servers"""
    thinking: bool = key()
    """for a checkpoint that thinks or not on request: what each request tells its chat template (`enable_thinking`, as
    Qwen3's is called). The same checkpoint may stand twice, as `llm` with false and as `rllm` with true: a pair without
    any other difference"""
    parameters_b: float = key(gt=0, le=1_000_000)
    """parameters in 1e9, for the estimates of `snakemake plan` and what clusters are asked for; results do not depend
    on it"""
    trust_remote_code: bool = key(shown="false")
    """whether code that comes with the checkpoint may run (not for `micro`)"""
    id: HubId = key()
    """the model on the hub"""
    revision: Text = key(allowed="commit or tag")
    """its revision; a commit stays the same"""
    path: Text = key(allowed="folder of a checkpoint, with its `config.json`")
    """the checkpoint"""
    training_scale: float = key(shown="1", gt=0, le=10)
    """length of a micro model's training, as a multiple of the recipe's"""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("source", ("hub",), required=("id", "revision"), excluded=("path", "training_scale")),
        Rule("source", ("path",), required=("path",), excluded=("id", "revision", "training_scale")),
        Rule(
            "source", ("micro",), excluded=("id", "revision", "path", "trust_remote_code", "thinking", "parameters_b")
        ),
        Rule("source", ("served",), excluded=("id", "revision", "path", "training_scale", "trust_remote_code")),
        Rule("role", ("rllm",), required=("reasoning_parser",)),
    )

    @classmethod
    def problem(cls, data: Mapping[Any, Any]) -> str | None:
        """Refuse drafts without a checkpoint."""
        problem = super().problem(data)
        if problem is None and data["role"] == "draft" and data["source"] == "served":
            return "a draft model is a checkpoint; give it another source than 'served'"
        return problem


class Dataset(Section):
    """Questions that models are asked."""

    source: Literal["hub", "path", "micro"]
    """Hugging Face hub, a local file, or generated"""
    prompt: Name = key(..., allowed="a file of `resources/prompts`, without `.jinja`")
    """how a question is put to the model"""
    num_questions: Count = key(shown="all; required for micro")
    """how many: the first so many, or as many as are generated"""
    n_samples: Count = key(shown="1")
    """how often each question is asked in a row within a point, with another seed each time, as for a majority vote:
    prompts then repeat, which a prefix cache can use"""
    difficulty: Text = key(shown="the set's own")
    """one label for the whole set"""
    format: Format = key()
    """how its records are laid out: as in the set of that name on the hub ([list](../docs/grading.md#datasets))"""
    suite: Suite = key()
    """what is generated"""
    id: HubId = key()
    """the dataset on the hub"""
    subset: Text = key()
    """its configuration on the hub"""
    split: Text = key(shown="the format's")
    """its split on the hub"""
    revision: Commit = key(allowed="full commit hash, 40 hex digits")
    """its revision"""
    path: Text = key(allowed="`.jsonl`, `.json` or `.parquet` file")
    """the records"""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("source", ("hub",), required=("format", "id", "revision"), excluded=("path", "suite")),
        Rule("source", ("path",), required=("format", "path"), excluded=("id", "revision", "subset", "split", "suite")),
        Rule(
            "source",
            ("micro",),
            required=("suite", "num_questions"),
            excluded=("id", "revision", "subset", "split", "path", "format"),
        ),
    )


class Checkpoint(Section):
    """A ready-made quantized checkpoint."""

    id: HubId = key(shown="required without `path`")
    """that checkpoint on the hub"""
    revision: Text = key(allowed="commit or tag", shown="required with `id`")
    """its revision"""
    path: Text = key(allowed="folder of a checkpoint, with its `config.json`")
    """or a local checkpoint"""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("path", excluded=("id", "revision")),
        Rule("path", absent=True, required=("id", "revision")),
    )


class Quantization(Section):
    """A format of weights."""

    method: Method
    """format of the weights, and how they are rounded"""
    calibration: Literal["reasoning", "plain"] = key(shown="`reasoning`")
    """the texts that `gptq-int4` and `awq-int4` look at: questions with what the model itself writes to them, thinking
    included, drawn with the study's sampling; or with the right answer alone, without any thinking"""
    n_samples: Count = key(shown="64")
    """how many such texts"""
    dataset: Name = key(allowed="a dataset", shown="required for models that are not micro")
    """where the questions come from: in an order drawn from the seed, the first `n_samples` are calibrated with and the
    next 32 checked with. Choose one that is not measured, such as a training split, and list `datasets` in the
    experiments: `all` would measure it too. Micro models have training questions of their own"""
    checkpoints: dict[Name, Checkpoint] = key(allowed="mapping, a model a name", shown="`{}`", min_length=1)
    """ready-made checkpoints instead of making them; they are checked as well, their answers only in the format of
    llmcompressor (`compressed-tensors`)"""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "method", ("fp8", "int8"), excluded=("calibration", "n_samples"), beside="a method that looks at no texts"
        ),
        Rule(
            "method",
            ("bf16", "bnb-nf4", "torchao-int8-weight", "torchao-int8-dynamic", "torchao-fp8-weight"),
            excluded=("calibration", "n_samples", "dataset", "checkpoints"),
            beside="a method without a checkpoint of its own",
        ),
    )


class Unquantized(Section):
    """bf16, which has no keys."""


class Quantizations(Section, extra="allow"):
    """Formats of weights by name."""

    bf16: Unquantized = key(Unquantized(), allowed="`{}`")
    """weights as they are, served in bfloat16; always there"""
    __pydantic_extra__: dict[Name, Quantization]
    entry: ClassVar[type[Section]] = Quantization

    @classmethod
    def problem(cls, data: Mapping[Any, Any]) -> str | None:
        """Refuse the name of the folder that a model's own weights are in."""
        if "checkpoint" in data:
            return "the key 'checkpoint' has no meaning as the name of a quantization; remove it"
        return super().problem(data)


class Trace(Section):
    """When requests came elsewhere."""

    source: Literal["servegen", "burstgpt", "mooncake", "azure"]
    """ServeGen's folder of one model (`chunk-N-trace.csv`, `chunk-N-dataset.json`); BurstGPT's CSV, with or without
    session columns; JSON lines with `timestamp` (ms), `input_length`, `output_length`; the CSV of Azure's LLM inference
    traces (`TIMESTAMP,ContextTokens,GeneratedTokens`)"""
    path: Text = key(..., allowed="a file or folder")
    """where it is"""
    start_s: float = key(0.0, ge=0)
    """s of the trace that are passed over, counted from its first request"""
