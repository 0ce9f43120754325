"""A checkpoint as one program gets it: with the tokens of its own tokenizer.json, or refused."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rllm_serving.models.checkpoints import ModelError
from rllm_serving.models.tokenizer_patch import PINNED
from rllm_serving.serving.process import ChildError, run_in_environment

KEPT_DIFFERENCES = 3
"""Of the checkpoint as it was, in its record."""


def prepare_for(
    program: str, model: Path, python: Path, target: Path, spec: Mapping[str, Any], key: str
) -> dict[str, Any]:
    """Compare what a program loads as a checkpoint's tokenizer with its file, and mend what differs.

    Mended is a folder of links to the checkpoint, `target`/checkpoint, in which only what the tokenizer is read from
    is written anew.

    Args:
        program: "vllm", "sglang" or "quantize".
        model: model.json of the checkpoint.
        python: interpreter of the program's environment.
        target: folder of the record.
        spec: the model's entry of the config.
        key: config key for error messages.

    Returns:
        The record of the model, with `path` of the folder that the program is to load and `tokenizer`: `examine` and
        `settle` of `tokenizer_worker`; pinned_date, which chat templates that ask for the time are told (None: it does
        not). It is also written to `target`/model.json.

    Raises:
        ModelError: when the tokenizer does not load, or cannot be made to give the tokens of its file.
    """
    record: dict[str, Any] = json.loads(model.read_text(encoding="utf-8"))
    mended = target.absolute() / "checkpoint"
    with tempfile.TemporaryDirectory() as folder:
        report_file = Path(folder) / "report.json"
        job = {
            "folder": record["path"],
            "mended": str(mended),
            "program": program,
            "trust_remote_code": spec.get("trust_remote_code", False),
            "thinking": spec.get("thinking"),
            "needs_template": spec["role"] != "draft",
            "report": str(report_file),
        }
        (Path(folder) / "job.json").write_text(json.dumps(job), encoding="utf-8")
        try:
            run_in_environment(
                f"tokenizer of {record['path']}",
                python,
                "rllm_serving.models.tokenizer_worker",
                [f"{folder}/job.json"],
                HF_HUB_OFFLINE="1",
                # It loads a tokenizer alone: no device is looked for, and none is taken.
                CUDA_VISIBLE_DEVICES="",
            )
        except ChildError as error:
            raise ModelError(f"{key}: looking at its tokenizer as {program} loads it {error}") from None
        report: dict[str, Any] = json.loads(report_file.read_text(encoding="utf-8"))
    if "refusal" in report:
        raise ModelError(f"{key}: its tokenizer cannot be used with {program}: {report['refusal']}")
    if (before := report["before"]) is not None:
        record["path"] = str(mended)
        before["differences"] = before["differences"][:KEPT_DIFFERENCES]
    report["pinned_date"] = PINNED.date().isoformat() if report["patch"]["pinned_clock"] else None
    record["tokenizer"] = {"program": program, **report}
    target.mkdir(parents=True, exist_ok=True)
    (target / "model.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return record


def describe_mending(record: Mapping[str, Any]) -> str:
    """What was changed for a program to read a checkpoint's tokenizer as its file has it, in a line for the log."""
    tokens = record["tokenizer"]
    if tokens["before"] is None:
        return f"loaded as {tokens['class']}, it gives the tokens of its file"
    before, done = tokens["before"], [name.replace("_", " ") for name, is_done in tokens["patch"].items() if is_done]
    first = "".join(f"; {one['in']} '{one['text']}': {one['what']}" for one in before["differences"][:1])
    return f"mended ({', '.join(done)}; {', '.join(tokens['files'])}): loaded as {before['class']}{first}"
