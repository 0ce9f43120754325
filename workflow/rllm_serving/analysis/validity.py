"""Whether a point's numbers can be believed: what the client saw of itself and of the counts, and the gates for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..schemas import ENGINE_COLUMNS
from .gates import FAILED, GATES


@dataclass
class ClientHealth:
    """What the client saw of itself while a point ran.

    Attributes:
        lags: by how much a timer of the event loop was late (s), one value for each time that it was due.
        cpu_s: CPU time of the process, its sampling thread included.
        wall_s: duration of the point.
    """

    lags: list[float] = field(default_factory=list)
    cpu_s: float = 0.0
    wall_s: float = 0.0


def compute_gates(
    health: ClientHealth, requests: pa.Table, samples: pa.Table, sample_hz: float, cores: int
) -> dict[str, float | None]:
    """The numbers of GATES for one point; None where one does not apply.

    requests, samples: the point's rows of requests.parquet and server.parquet; cores: how many server and client may
    use. The server's counter is compared only where every request ended well: what it counted for a failed one nobody
    knows.
    """
    ok = requests.filter(pc.equal(requests["status"], "ok"))
    usage_tokens = pc.sum(ok["output_tokens"]).as_py()
    whole = ok.num_rows == requests.num_rows
    grown = _growth(samples["generated_tokens"]) if whole else None
    loaded = samples.filter(samples["in_window"])
    others, stolen = (pc.mean(loaded[f"host_{who}_cores"]).as_py() for who in ("others", "steal"))
    lag = pc.subtract(requests["sent"], requests["scheduled"]).drop_null().to_numpy()
    return {
        "loop_lag_p99_s": float(np.quantile(health.lags, 0.99)) if health.lags else None,
        "client_cpu_utilization": health.cpu_s / health.wall_s if health.wall_s > 0 else None,
        "schedule_lag_p99_s": float(np.quantile(lag, 0.99)) if len(lag) else None,
        "missing_samples_rate": _missing(samples, health.wall_s, sample_hz),
        "usage_mismatch_rate": _usage_mismatch(ok),
        "reasoning_mismatch_rate": _reasoning_mismatch(ok),
        "counter_mismatch_rate": _mismatch(grown, usage_tokens),
        "undecoded_rate": pc.mean(ok["undecoded"]).as_py(),
        "others_cpu_utilization": None if others is None else others / cores,
        "steal_rate": None if stolen is None else stolen / cores,
        "throttled_rate": pc.mean(loaded["device_throttled"]).as_py(),
        "foreign_processes": pc.max(loaded["device_other_processes"]).as_py(),
        FAILED: (requests.num_rows - ok.num_rows) / requests.num_rows,
    }


def _usage_mismatch(requests: pa.Table) -> float | None:
    """Of the requests whose stream had token ids; what one has too many does not make up for another's lack."""
    told = requests.filter(pc.is_valid(requests["streamed_ids"]))
    different, counted = pc.abs(pc.subtract(told["streamed_ids"], told["output_tokens"])), told["output_tokens"]
    return pc.sum(different).as_py() / pc.sum(counted).as_py() if pc.sum(counted).as_py() else None


def _reasoning_mismatch(requests: pa.Table) -> float | None:
    """Of the requests whose thinking both the chunks and a count tell of; None where nobody thought."""
    told = requests.filter(
        pc.and_(pc.is_valid(requests["streamed_reasoning"]), pc.is_valid(requests["reasoning_tokens"]))
    )
    streamed, counted = told["streamed_reasoning"], told["reasoning_tokens"]
    whole = pc.sum(pc.max_element_wise(streamed, counted)).as_py()
    return pc.sum(pc.abs(pc.subtract(streamed, counted))).as_py() / whole if whole else None


def _growth(counter: pa.ChunkedArray) -> float | None:
    readings = counter.drop_null().to_numpy()
    return float(readings[-1] - readings[0]) if len(readings) >= 2 else None


def _mismatch(value: float | None, expected: float | None) -> float | None:
    return None if value is None or not expected else abs(value - expected) / expected


def _missing(samples: pa.Table, wall_s: float, hz: float) -> float:
    """Share of a point's time that no sample tells of: more than two periods from the one before.

    A sample is one of the engine's own metrics, whichever of them it has.
    """
    told = [pc.is_valid(samples[name]) for name in ENGINE_COLUMNS if name in samples.column_names]
    came = samples.filter(pc.and_(samples["in_window"], reduce(pc.or_, told)))
    edges = np.concatenate([[0.0], np.sort(came["time"].to_numpy()), [wall_s]])
    silent = np.clip(np.diff(edges) - 2 / hz, 0, None).sum()
    return float(silent / wall_s) if wall_s > 0 else 0.0


def limits(measurement: Mapping[str, Any]) -> dict[str, float]:
    """The limit of each of GATES, of the config's `measurement`."""
    return {**measurement["gates"], FAILED: measurement["max_failed_rate"]}


def invalid(numbers: Mapping[str, float | None], limits: Mapping[str, float]) -> str | None:
    """Why a point is beyond its gates, in words, or None: limits has a number for each name of GATES."""
    reasons = [
        f"{name} {GATES[name].format(value)}, allowed {GATES[name].format(limits[name])}"
        for name, value in numbers.items()
        if value is not None and value > limits[name]
    ]
    return "; ".join(reasons) or None
