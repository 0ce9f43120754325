"""Quantizing a model as a job: run the tool in its environment, check the checkpoint, describe it."""

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
from rllm_serving.serving.gpus import GpuLease, acquire_gpus
from rllm_serving.serving.hardware import describe as describe_hardware
from rllm_serving.serving.memory import GIB, GpuMemoryError, KvShape, loaded_bytes
from rllm_serving.serving.process import ChildError, run_in_environment
from rllm_serving.study.quantization_memory import fewest_gpus
from rllm_serving.study.quantization_methods import (
    CALIBRATION_SAMPLES,
    LONGEST_TEXT,
    METHODS,
    MICRO_LONGEST_TEXT,
    TOOL_FORMAT,
)


@dataclass(frozen=True)
class QuantizationJob:
    """A model to quantize, and how.

    Attributes:
        model: name of the model in the config.
        quantization: name of the weight format in the config.
        spec: its entry of `quantizations`.
        model_spec: entry of `models`.
        rows: questions of `spec`'s dataset, None for a micro model.
        templates: prompt template of each kind of answer, or one for all under "".
        seed: of the questions drawn and of sampling.
        sampling: temperature and top_p of the calibration texts.
        device: "cpu" or "cuda".
        gpus: how many the model may be spread over.
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
        """Config key of the weight format, for error messages."""
        return f"quantizations.{self.quantization}"


def quantize(job: QuantizationJob, base: Path, python: Path, target: Path) -> dict[str, Any]:
    """Quantize the model that `base` (a model.json) describes into `target`/checkpoint, check it, and describe it.

    A ready-made checkpoint (`checkpoints` of the config) is fetched or linked instead of made.

    Args:
        job: the model and the method.
        base: model.json of the bf16 model.
        python: interpreter of the tool's environment.
        target: folder of the quantized model.

    Returns:
        The record, also written to `target`/model.json: that of `prepare_checkpoint` and `quantization`: method,
        scheme, versions, calibration (kind, source, texts, tokens, seed, sha256; null without texts), seconds, size
        (see `checks.sizes`, and checkpoint_bytes, bf16_checkpoint_bytes), agreement (see `checks.agreement`; null for
        a format that the tool cannot load), base (source, id, revision, commit, path of the bf16 model).

    Raises:
        ModelError: when the checkpoint cannot be made or fails a check.
        GpuError: when its GPUs cannot be had.
        GpuMemoryError: when they are too few for the model.
    """
    method = METHODS[job.spec["method"]]
    bf16 = json.loads(base.read_text(encoding="utf-8"))
    ready = job.spec.get("checkpoints", {}).get(job.model)
    label = f"{job.key} (model '{job.model}')"
    target.mkdir(parents=True, exist_ok=True)
    _clear(target)
    if ready is None:
        report: dict[str, Any] | None = _run_worker(job, label, bf16, python, target, make=True)
        record: dict[str, Any] = {"source": "quantized", "id": None, "revision": None, "commit": None}
        record["path"] = str((target / "checkpoint").absolute())
        trusted = job.model_spec.get("trust_remote_code", False)
        record |= describe(job.model, target / "checkpoint", trusted, label)
    else:
        spec = {**ready, "source": "hub" if "id" in ready else "path"}
        spec["trust_remote_code"] = job.model_spec.get("trust_remote_code", False)
        record = prepare_checkpoint(job.model, spec, target, key=f"{job.key}.checkpoints.{job.model}")
        # Described only once it has passed its checks.
        (target / "model.json").unlink()
        stored = _format(target / "checkpoint")
        if stored not in method.formats:
            raise ModelError(
                f"{job.key}.checkpoints.{job.model}: its config.json has the format {stored!r}; "
                f"{job.spec['method']} is one of {', '.join(method.formats)}"
            )
        report = _run_worker(job, label, bf16, python, target, make=False) if stored == TOOL_FORMAT else None
    assert method.ratio is not None
    before, after = (tensors(label, Path(model["path"])) for model in (bf16, record))
    size = sizes(label, before, after, method.ratio)
    agreed = report and agreement(label, report["kinds"], report["quantized"], report["bf16"])
    record["quantization"] = {
        "method": job.spec["method"],
        "scheme": None if ready else method.scheme,
        "versions": report and report["versions"],
        "calibration": report and report["calibration"],
        "seconds": report and report["seconds"],
        "size": {**size, "checkpoint_bytes": record["bytes"], "bf16_checkpoint_bytes": bf16["bytes"]},
        "agreement": agreed,
        "base": {name: bf16[name] for name in ("source", "id", "revision", "commit", "path")},
    }
    (target / "model.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return record


def _run_worker(
    job: QuantizationJob, label: str, bf16: Mapping[str, Any], python: Path, target: Path, make: bool
) -> dict[str, Any]:
    """Run the tool; return what the worker wrote, the kinds of the held-out questions, and the source of the texts."""
    samples = job.spec.get("n_samples", CALIBRATION_SAMPLES)
    if job.rows is None:
        questions, held_out = micro_questions(samples, job.seed)
        source, longest = "micro training questions", MICRO_LONGEST_TEXT
    else:
        questions, held_out = dataset_questions(job.key, job.rows, samples, job.seed)
        source, longest = f"dataset {job.spec['dataset']}", LONGEST_TEXT
    method = METHODS[job.spec["method"]]
    with tempfile.TemporaryDirectory() as folder:
        answers = Path(folder) / "answers.json"
        worker_job = {
            "model": bf16["path"],
            "out": str((target / "checkpoint").absolute()),
            "scheme": method.scheme if make else None,
            "modifier": method.modifier,
            "calibration": job.spec.get("calibration", "reasoning") if method.calibrated else None,
            "questions": [_question(job, row) for row in questions],
            "held_out": [_question(job, row) for row in held_out],
            "longest": min(longest, bf16["max_position_embeddings"] or longest),
            "sampling": dict(job.sampling),
            "trust_remote_code": job.model_spec.get("trust_remote_code", False),
            "thinking": job.model_spec.get("thinking"),
            "device": job.device,
            "seed": job.seed,
            "answers": str(answers),
        }
        (Path(folder) / "job.json").write_text(json.dumps(worker_job), encoding="utf-8")
        try:
            with acquire_gpus(job.gpus) as gpus:
                _check_memory(label, bf16, gpus)
                # Its progress bars would fill the log; all that it loads is on this machine.
                run_in_environment(
                    f"{job.model} {job.quantization}",
                    python,
                    "rllm_serving.quantization.worker",
                    [f"{folder}/job.json"],
                    gpus,
                    TQDM_DISABLE="1",
                    HF_HUB_OFFLINE="1",
                )
        except ChildError as error:
            raise ModelError(f"{label}: quantizing it or loading it again {error}") from None
        report: dict[str, Any] = json.loads(answers.read_text(encoding="utf-8"))
    if report["calibration"]:
        report["calibration"]["source"] = source
    return {**report, "kinds": [row["kind"] for row in held_out]}


def _check_memory(label: str, bf16: Mapping[str, Any], gpus: GpuLease) -> None:
    """Raise GpuMemoryError when the GPUs cannot hold the bf16 model while it writes and is quantized."""
    sizes = [gpu["memory_bytes"] for gpu in describe_hardware(gpus.uuids)["gpus"]]
    if not sizes:
        return
    config = json.loads((Path(bf16["path"]) / "config.json").read_text(encoding="utf-8"))
    shape = KvShape.of(config)
    token_bytes = 0 if shape is None else shape.bytes_per_token("auto")
    fewest = fewest_gpus(loaded_bytes(bf16, config), token_bytes, min(sizes))
    if fewest > len(sizes):
        raise GpuMemoryError(
            f"{label}: {fewest} GPUs of {min(sizes) / GIB:.0f} GiB are needed to hold the model in bf16, there are "
            f"{len(sizes)}; raise its serving.tensor_parallel (and --resources gpu), or name a ready-made checkpoint "
            "in `checkpoints`"
        )


def _question(job: QuantizationJob, row: Row) -> dict[str, Any]:
    template = job.templates[row["kind"] if job.rows is None else ""]
    return {"prompt": render(template, row["question"], row["choices"]), "gold": row["gold"], "kind": row["kind"]}


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
