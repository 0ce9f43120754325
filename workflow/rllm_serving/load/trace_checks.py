"""What the dry run says of traces: the head of each is read, and what cannot be served is told before the start."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..study.study import Study
from .servegen_files import read_folder
from .trace_files import HEAD, ArrivalError, Recording, named, read_recording, too_few


def check_traces(study: Study) -> list[str]:
    """Read the head of every trace of a study; return what the user should know of them, a line each.

    Raises:
        ArrivalError: for the first fault, with the trace's key, file and row.
    """
    notes = []
    for name, spec in study.config["traces"].items():
        path = Path(spec["path"]).expanduser()
        with named(name):
            check = _check_servegen if spec["source"] == "servegen" else _check_recorded
            said = check(study, name, spec, path)
        notes += [f"traces.{name}.path: {path}: {note}" for note in said]
    return notes


def _loads(study: Study, trace: str) -> list[tuple[str, Mapping[str, Any]]]:
    """Experiment and load, of all loads of a trace."""
    return [
        (name, load) for name, sweep in study.sweeps.items() for load in sweep["loads"] if load.get("trace") == trace
    ]


def _asked(study: Study, trace: str) -> int:
    """The most requests that a point asks of a trace, as far as the config tells; at least 1."""
    asked = [1]
    for name in {name for name, _ in _loads(study, trace)}:
        sweep = study.sweeps[name]
        for dataset, samples in sweep["n_samples"].items():
            questions = sweep["num_questions"] or study.datasets[dataset].get("num_questions") or 0
            asked.append(questions * samples)
    return max(asked)


def _check_servegen(study: Study, name: str, spec: Mapping[str, Any], path: Path) -> list[str]:
    folder, asked = read_folder(path), _asked(study, name)
    for client in folder.clients:
        start = client.lengths_from(folder.starts[0] + spec["start_s"])
        if start is not None:
            client.lengths(start)
    if folder.expected(spec["start_s"]) + len(folder.clients) < asked:
        raise too_few(path, folder.expected(spec["start_s"]), spec["start_s"], asked)
    unsorted = sum(client.unsorted for client in folder.clients)
    return [_sorted(unsorted, "")] if unsorted else []


def _check_recorded(study: Study, name: str, spec: Mapping[str, Any], path: Path) -> list[str]:
    head, asked = read_recording(spec["source"], path, HEAD), _asked(study, name)
    first = min(head.times)
    later = sum(time - first >= spec["start_s"] for time in head.times)
    if head.complete and later < asked:
        raise too_few(path, later, spec["start_s"], asked)
    replayed = any(load.get("replay_output_lengths") for _, load in _loads(study, name))
    if replayed and any(math.isnan(tokens) for tokens in head.output_tokens):
        raise ArrivalError(f"{path}: has a request without its output tokens; set replay_output_lengths: false")
    where = "" if head.complete else f" of its first {HEAD}"
    notes = [_sorted(head.unsorted, where)] if head.unsorted else []
    for experiment in dict.fromkeys(experiment for experiment, _ in _loads(study, name)):
        contexts = [run.options.context_length for run in study.experiments[experiment]]
        longer = _longer(head, min(contexts, default=0))
        if contexts and longer:
            notes.append(
                f"{longer}{where} requests are longer than the context of {min(contexts)} tokens (experiment "
                f"'{experiment}'): they come when they came, with questions of the dataset and answers up to the budget"
            )
    return notes


def _sorted(rows: int, where: str) -> str:
    return f"{rows}{where} rows have a time before that of the row above: all are sorted by time"


def _longer(head: Recording, context: int) -> int:
    """Requests whose prompt and answer together are more than a context (tokens)."""
    return sum(prompt + output > context for prompt, output in zip(head.prompt_tokens, head.output_tokens, strict=True))
