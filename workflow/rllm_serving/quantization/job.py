"""Quantizing a model as a job: made in the environment of the tool, checked, described."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rllm_serving.datasets.prompts import render
from rllm_serving.models.checkpoints import ModelError, describe, prepare_checkpoint, tensors
from rllm_serving.quantization.calibration import Row, dataset_questions, micro_questions
from rllm_serving.quantization.checks import agreement, sizes
from rllm_serving.serving.gpus import acquire_gpus
from rllm_serving.serving.process import ChildError, run_in_environment
from rllm_serving.study.quantization_methods import (
    CALIBRATION_SAMPLES,
    LONGEST_TEXT,
    METHODS,
    MICRO_LONGEST_TEXT,
    TOOL_FORMAT,
)


@dataclass(frozen=True)
class QuantizationJob:
    """What is to be quantized, and with what.

    model, quantization: names in the config; spec: entry of `quantizations`; model_spec: entry of `models`;
    rows: questions of `spec`'s dataset, None for a micro model; templates: prompt template of each kind of answer, or
    one for all under ""; gpus: how many the model may be spread over.
    """

    model: str
    quantization: str
    spec: Mapping[str, Any]
    model_spec: Mapping[str, Any]
    rows: Sequence[Row] | None
    templates: Mapping[str, Path]
    seed: int
    sampling: Mapping[str, float]
    device: str
    gpus: int = 0

    @property
    def key(self) -> str:
        """Where the config has it."""
        return f"quantizations.{self.quantization}"


def quantize(request: QuantizationJob, base: Path, python: Path, target: Path) -> dict[str, Any]:
    """Quantize the model that `base` (a model.json) describes into `target`/checkpoint, check it, and describe it.

    python: interpreter of the tool's environment. A ready-made checkpoint (`checkpoints` of the config) is fetched or
    linked instead. `target`/model.json is the record of `prepare_checkpoint` and in `quantization`: method, scheme,
    versions, calibration (kind, source, texts, tokens, seed, sha256; null if no text was looked at), seconds, size
    (see `checks.sizes`, and checkpoint_bytes, bf16_checkpoint_bytes), agreement (see `checks.agreement`; null for a
    format that the tool can't load), base (id, revision, commit, path of the bf16 model). Raises ModelError, and
    AllotmentError when its GPUs can't be had.
    """
    method = METHODS[request.spec["method"]]
    bf16 = json.loads(base.read_text(encoding="utf-8"))
    ready = request.spec.get("checkpoints", {}).get(request.model)
    what = f"{request.key} (model '{request.model}')"
    target.mkdir(parents=True, exist_ok=True)
    _clear(target)
    if ready is None:
        found: dict[str, Any] | None = _run_worker(request, what, bf16, python, target, make=True)
        record: dict[str, Any] = {"source": "quantized", "id": None, "revision": None, "commit": None}
        record["path"] = str((target / "checkpoint").absolute())
        trusted = request.model_spec.get("trust_remote_code", False)
        record |= describe(request.model, target / "checkpoint", trusted, what)
    else:
        spec = {**ready, "source": "hub" if "id" in ready else "path"}
        spec["trust_remote_code"] = request.model_spec.get("trust_remote_code", False)
        record = prepare_checkpoint(request.model, spec, target, key=f"{request.key}.checkpoints.{request.model}")
        # Described only once it has passed its checks.
        (target / "model.json").unlink()
        stored = _format(target / "checkpoint")
        if stored not in method.formats:
            raise ModelError(
                f"{request.key}.checkpoints.{request.model}: its config.json has the format {stored!r}; "
                f"{request.spec['method']} is one of {', '.join(method.formats)}"
            )
        found = _run_worker(request, what, bf16, python, target, make=False) if stored == TOOL_FORMAT else None
    assert method.ratio is not None
    before, after = (tensors(what, Path(model["path"])) for model in (bf16, record))
    size = sizes(what, before, after, method.ratio)
    agreed = found and agreement(what, found["kinds"], found["quantized"], found["bf16"])
    record["quantization"] = {
        "method": request.spec["method"],
        "scheme": None if ready else method.scheme,
        "versions": found and found["versions"],
        "calibration": found and found["calibration"],
        "seconds": found and found["seconds"],
        "size": {**size, "checkpoint_bytes": record["bytes"], "bf16_checkpoint_bytes": bf16["bytes"]},
        "agreement": agreed,
        "base": {name: bf16[name] for name in ("source", "id", "revision", "commit", "path")},
    }
    (target / "model.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return record


def _run_worker(
    request: QuantizationJob, what: str, bf16: Mapping[str, Any], python: Path, target: Path, make: bool
) -> dict[str, Any]:
    """Run the tool; what `making` found, with the kinds of the held-out questions and the source of the others."""
    samples = request.spec.get("n_samples", CALIBRATION_SAMPLES)
    if request.rows is None:
        questions, held_out = micro_questions(samples, request.seed)
        source, longest = "micro training questions", MICRO_LONGEST_TEXT
    else:
        questions, held_out = dataset_questions(request.key, request.rows, samples, request.seed)
        source, longest = f"dataset {request.spec['dataset']}", LONGEST_TEXT
    method = METHODS[request.spec["method"]]
    with tempfile.TemporaryDirectory() as folder:
        answers = Path(folder) / "answers.json"
        job = {
            "model": bf16["path"],
            "out": str((target / "checkpoint").absolute()),
            "scheme": method.scheme if make else None,
            "modifier": method.modifier,
            "calibration": request.spec.get("calibration", "reasoning") if method.calibrated else None,
            "questions": [_question(request, row) for row in questions],
            "held_out": [_question(request, row) for row in held_out],
            "longest": min(longest, bf16["max_position_embeddings"] or longest),
            "sampling": dict(request.sampling),
            "trust_remote_code": request.model_spec.get("trust_remote_code", False),
            "thinking": request.model_spec.get("thinking"),
            "device": request.device,
            "seed": request.seed,
            "answers": str(answers),
        }
        (Path(folder) / "job.json").write_text(json.dumps(job), encoding="utf-8")
        try:
            with acquire_gpus(request.gpus) as gpus:
                # Its progress bars would fill the log; all that it loads is on this machine.
                run_in_environment(
                    f"{request.model} {request.quantization}",
                    python,
                    "rllm_serving.quantization.worker",
                    [f"{folder}/job.json"],
                    gpus,
                    TQDM_DISABLE="1",
                    HF_HUB_OFFLINE="1",
                )
        except ChildError as error:
            raise ModelError(f"{what}: quantizing it or loading it again {error}") from None
        found: dict[str, Any] = json.loads(answers.read_text(encoding="utf-8"))
    if found["calibration"]:
        found["calibration"]["source"] = source
    return {**found, "kinds": [row["kind"] for row in held_out]}


def _question(request: QuantizationJob, row: Row) -> dict[str, Any]:
    template = request.templates[row["kind"] if request.rows is None else ""]
    return {
        "prompt": render(template, row["question"], row["choices"]),
        "gold": row["gold"],
        "kind": row["kind"],
    }


def _format(folder: Path) -> str | None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return config.get("quantization_config", {}).get("quant_method")


def _clear(target: Path) -> None:
    """Remove an earlier checkpoint: files that a new one does not write again must not stay beside it."""
    checkpoint = target / "checkpoint"
    if checkpoint.is_symlink():
        checkpoint.unlink()
    elif checkpoint.exists():
        shutil.rmtree(checkpoint)
