"""What a study needs of the machine that it runs on, as far as that is known before anything is fetched."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..environments import cuda_version
from ..serving.memory import KvShape
from .design import Run
from .estimate import Plan
from .quantization_methods import METHODS

TOKEN_BYTES = 45_000
"""Keys and values of a token in bf16, of a model of a billion parameters; they grow with the square root: 7B to 9B have
57,000 to 147,000, 14B 196,000, 32B 262,000, 70B 328,000."""
MEMORY_OPTIONS = (
    *("context_length", "tensor_parallel", "gpu_memory_fraction", "kv_cache_tokens", "kv_cache_dtype"),
    *("prefill_chunk_tokens", "max_running_requests"),
)
"""Serving options that decide what fits on a GPU."""
GATED = re.compile(r"^(meta-llama/|google/gemma-|mistralai/|Idavidrein/gpqa$)", re.IGNORECASE)
"""Ids of the hub that are known to be gated: their owner has to grant access to the token's account."""


def requirements(plan: Plan, locks: Path) -> dict[str, Any]:
    """Return what the default experiments of a study need, as plain JSON.

    Args:
        plan: the study's.
        locks: folder of the environments' locks.

    Returns:
        cuda (version of CUDA -> locks that are built with it); gpus (of the largest job, as Snakemake counts them);
        servers: rows of `server` (model and weight format), `setups`, `engines`, `method`, `weight_bytes` and
        `token_bytes` (of one GPU, null where not known), `estimated` (whether token_bytes is from the model's size
        alone), `options` (MEMORY_OPTIONS);
        quantizing: rows of `model`, `gpus` (that it asks for), `weight_bytes`, `token_bytes`;
        files: rows of `what`, `bytes` (null: not known), `record` (a file below resources/, there when it is there),
        `hub` (its id, null for what is not fetched from the hub);
        gated: rows of `id`, `kind` ("model", "dataset"), `known` (to be gated), `record`.
    """
    study = plan.study
    experiments = study.default_experiments
    runs = [run for name in experiments for run in study.experiments[name] if run.start == 1]
    return _needs(plan, locks, experiments, runs, {model for model, _ in study.quantized(experiments)})


def requirements_of_jobs(
    plan: Plan, locks: Path, runs: Iterable[Run], quantized: Collection[str], outputs: Collection[str]
) -> dict[str, Any]:
    """Return what the jobs of one call need: not what is there already, nor what is not asked for.

    Args:
        plan: the study's.
        locks: folder of the environments' locks.
        runs: those that are measured.
        quantized: models that are quantized.
        outputs: files that are made.

    Returns:
        As `requirements`.
    """
    needs = _needs(plan, locks, list(plan.study.experiments), list(runs), quantized)
    for kind in ("files", "gated"):
        needs[kind] = [row for row in needs[kind] if f"resources/{row['record']}" in outputs]
    return needs


def _needs(
    plan: Plan, locks: Path, experiments: Sequence[str], runs: Sequence[Run], quantized: Collection[str]
) -> dict[str, Any]:
    """What is fetched and made for `experiments`, and what serving `runs` and quantizing models take."""
    study = plan.study
    sizes = {model: _token_bytes(plan, model) for model in study.models}
    tools = {run.engine for run in runs if run.endpoint is None} | ({"quantize"} if quantized else set())
    gpus = [run.gpus(study.device) for run in runs] + [int(study.device == "cuda") for _ in quantized]
    return {
        "cuda": _cuda(sorted(f"{tool}-{study.device}" for tool in tools), locks),
        "gpus": max(gpus, default=0),
        "servers": _servers(plan, runs, sizes) if study.device == "cuda" else [],
        "quantizing": [
            {
                "model": model,
                "gpus": study.gpus(model),
                "weight_bytes": None if plan.parameters(model) is None else 2 * (plan.parameters(model) or 0),
                "token_bytes": sizes[model][0],
            }
            for model in sorted(quantized)
            if study.device == "cuda"
        ],
        "files": _files(plan, experiments),
        "gated": _hub_entries(plan, experiments),
    }


def _cuda(environments: Iterable[str], locks: Path) -> dict[str, list[str]]:
    versions: dict[str, list[str]] = {}
    for name in environments:
        version = cuda_version((locks / f"{name}.txt").read_text(encoding="utf-8"))
        if version is not None:
            versions.setdefault(version, []).append(name)
    return versions


def _token_bytes(plan: Plan, model: str) -> tuple[float | None, bool]:
    """Bytes of a token's keys and values in bf16 on one GPU, and whether that is estimated from the model's size."""
    spec = plan.study.models[model]
    parameters = plan.parameters(model)
    # Not of one that was fetched meanwhile: the check would be another one, and be done again.
    file = Path(spec["path"]).expanduser() / "config.json" if spec["source"] == "path" else Path()
    if file.is_file():
        shape = KvShape.of(json.loads(file.read_text(encoding="utf-8")))
        return (None, False) if shape is None else (shape.bytes_per_token("auto"), False)
    return (None, True) if parameters is None else (TOKEN_BYTES * (parameters / 1e9) ** 0.5, True)


def _servers(plan: Plan, runs: Iterable[Run], sizes: Mapping[str, tuple[float | None, bool]]) -> list[dict[str, Any]]:
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for run in runs:
        options = {name: getattr(run.options, name) for name in MEMORY_OPTIONS}
        key = (run.model, run.quantization, run.options.draft_model, *options.values())
        if key not in rows:
            rows[key] = _server(plan, run, sizes) | {"options": options}
        for name, value in (("setups", run.setup), ("engines", run.engine)):
            rows[key][name] += [value] * (value not in rows[key][name])
    return list(rows.values())


def _server(plan: Plan, run: Run, sizes: Mapping[str, tuple[float | None, bool]]) -> dict[str, Any]:
    options, method = run.options, METHODS[run.method]
    models = [run.model, *([options.draft_model] if options.draft_model else [])]
    ratios = [method.ratio or method.loaded_ratio or 1.0, *(1.0 for _ in models[1:])]
    weights = [None if (p := plan.parameters(m)) is None else 2 * p * r for m, r in zip(models, ratios, strict=True)]
    share = (0.5 if options.kv_cache_dtype.startswith("fp8") else 1.0) / options.tensor_parallel
    return {
        "server": f"{run.model} {run.quantization}",
        "setups": [],
        "engines": [],
        "method": run.method,
        "weight_bytes": _sum(weights, 1 / options.tensor_parallel),
        "token_bytes": _sum([sizes[model][0] for model in models], share),
        "estimated": any(sizes[model][1] for model in models),
    }


def _sum(parts: Iterable[float | None], factor: float) -> int | None:
    known = list(parts)
    return None if None in known else round(factor * sum(part or 0.0 for part in known))


def _files(plan: Plan, experiments: Sequence[str]) -> list[dict[str, Any]]:
    study = plan.study
    environments = study.environments(experiments)
    rows = []
    for row in plan.downloads(experiments):
        what = row["what"]
        folder = (
            f"environments/{what}/environment" if what in environments else f"models/{what.replace(' ', '/')}/model"
        )
        model, _, name = what.partition(" ")
        spec = study.models.get(model, {})
        if name:
            spec = study.quantizations[name].get("checkpoints", {}).get(model, {})
        if not row["optional"] and row["bytes"] != 0.0:
            hub = spec.get("id") if row["kind"] == "download" else None
            rows.append({"what": what, "bytes": row["bytes"], "record": f"{folder}.json", "hub": hub})
    return rows


def _hub_entries(plan: Plan, experiments: Sequence[str]) -> list[dict[str, Any]]:
    study = plan.study
    asked = {name for experiment in experiments for name in study.sweeps[experiment]["datasets"]}
    asked |= {study.quantizations[name].get("dataset") for _, name in study.quantized(experiments)}
    models = study.checkpoints(experiments)
    entries = [("model", study.models[name], f"models/{name}/model.json") for name in models]
    entries += [("dataset", study.datasets[name], f"datasets/{name}.parquet") for name in sorted(filter(None, asked))]
    rows = {}
    for kind, spec, record in entries:
        if spec["source"] == "hub":
            known = bool(GATED.match(spec["id"]))
            rows[kind, spec["id"]] = {"id": spec["id"], "kind": kind, "known": known, "record": record}
    return list(rows.values())
