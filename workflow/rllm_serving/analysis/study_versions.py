"""What differs between two studies besides their results: versions, machines, models, keys of the config."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

COLUMNS = ["about", "item", "then", "now"]
MEASURED = "measured"
"""Item of what only one study has."""
_MODEL = ("source", "id", "revision", "commit", "bytes", "parameters", "dtype")
_SERVER, _GIB = "server ", 2**30

Facts = dict[str, dict[str, set[str]]]
"""What a fact is about -> item -> its values in all runs."""


def differences(then: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return COLUMNS, a row a fact that differs; several values within a study stand together, missing is null.

    What only one study has (an engine, a model, an experiment) is one row, with the item MEASURED; its servers are
    among what is not compared.

    Args:
        then: run.json of each run of the older study.
        now: of the newer one.
    """
    sides = [_collect(then), _collect(now)]
    rows: list[list[str | None]] = []
    for about in dict.fromkeys([*sides[0], *sides[1]]):
        known = [side.get(about) for side in sides]
        if known[0] is None or known[1] is None:
            if not about.startswith(_SERVER):
                rows.append([about, MEASURED, *("no" if facts is None else "yes" for facts in known)])
            continue
        for item in dict.fromkeys([*known[0], *known[1]]):
            values = ["; ".join(sorted(facts.get(item, ()))) or None for facts in (known[0], known[1])]
            if values[0] != values[1]:
                rows.append([about, item, *values])
    return pd.DataFrame(rows, columns=COLUMNS)


def _collect(records: Sequence[Mapping[str, Any]]) -> Facts:
    facts: Facts = {}
    for record in records:
        for about, item, value in _facts(record):
            of_about = facts.setdefault(about, {})
            if value is not None and value != "":
                of_about.setdefault(item, set()).add(str(value))
    return facts


def _facts(record: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Yield what a fact is about, its item and its value, of a run."""
    server, config = record["server"], record["config"]
    engine, environment = server["engine"], record["environment"]
    yield "code", "version of measuring", config.get("version")
    for session in record["sessions"]:
        yield "code", "git commit", session["git_commit"]
        yield from (("machine", item, value) for item, value in _machine(session["hardware"]))
    yield "machine", "device", record["device"]
    yield engine, "version", environment["engine_version"]
    yield engine, "python", environment["python"]
    yield from ((engine, f"package {name}", version) for name, version in environment["packages"].items())
    checkpoint = server["model"]
    if (record["model"].get("quantization") or {}).get("method"):
        checkpoint = f"{server['model']} as {server['quantization']}"
    yield from ((f"model {checkpoint}", item, value) for item, value in _model(record["model"]))
    experiment = f"experiment {server['experiment']}"
    for section in ("sampling", "measurement"):
        yield from ((experiment, item, value) for item, value in _flat(config.get(section), section))
    yield experiment, "seed", config.get("seed")
    yield from ((_SERVER + "/".join(server.values()), item, value) for item, value in _served(record))


def _served(record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    config = record["config"]
    yield "method", config.get("method")
    yield from _flat(config.get("options"), "options")
    for session in record["sessions"]:
        yield from ((f"kernel: {name}", "/".join(names)) for name, names in session.get("kernels", {}).items())
        asked = session.get("asked", {})
        for name, value in session.get("effective", {}).items():
            if value != asked.get(name):  # chosen, or changed, by the engine
                yield f"effective: {name}", value


def _machine(hardware: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from ((item, hardware[item]) for item in ("cpu", "cores", "driver"))
    yield "memory (GiB)", f"{hardware['memory_bytes'] / _GIB:.0f}"
    gpus = Counter(gpu["name"] for gpu in hardware["gpus"])
    yield "GPUs", ", ".join(f"{count} x {name}" for name, count in sorted(gpus.items()))
    yield "system", hardware["system"]


def _model(model: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from ((item, model.get(item)) for item in _MODEL)
    made: Mapping[str, Any] = {"training": model.get("training"), "quantization": model.get("quantization")}
    for section, keys in (
        ("training", ("precision", "steps", "seed", "versions")),
        ("quantization", ("method", "scheme", "versions", "calibration")),
    ):
        if made[section]:
            yield from _flat({key: made[section].get(key) for key in keys}, section)


def _flat(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield dotted names and values of what may be a mapping of mappings."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _flat(part, f"{name}.{key}")
    else:
        yield name, value
