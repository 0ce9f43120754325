"""What becomes of a point that exceeds a gate: its run fails, or it is kept and marked."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from ..analysis import validity
from ..errors import UserError
from ..study.design import Point, Run
from .journal import Journal
from .paths import RunPaths

log = logging.getLogger(__name__)


class RunError(UserError):
    """A run cannot give valid numbers."""


def check_validity(
    run: Run, paths: RunPaths, journal: Journal, point: Point, requests: pa.Table, gates: Mapping[str, float | None]
) -> None:
    """Log when a point exceeds a gate.

    Args:
        run: that it belongs to.
        paths: its files.
        journal: where its requests are written if it is rejected.
        point: what was measured.
        requests: its rows of requests.parquet.
        gates: its numbers of `gates.GATES`.

    Raises:
        RunError: when the config has such points fail the run, and when all of its requests failed.
    """
    reason = validity.invalid(gates, validity.limits(run.measurement))
    if reason is None:
        return
    failed = requests.filter(pc.not_equal(requests["status"], "ok"))
    reasons = sorted({f"{row['status']}: {row['error']}" for row in failed.select(["status", "error"]).to_pylist()})
    details = f" ({failed.num_rows} of {requests.num_rows} failed: {'; '.join(reasons[:5])})" if reasons else ""
    message = f"{run.folder}, point {point.name} is invalid: {reason}{details}"
    if run.measurement["on_invalid"] == "mark" and failed.num_rows < requests.num_rows:
        log.warning("%s; it is kept and marked", message)
        return
    rejected = journal.reject(point.name, requests)
    raise RunError(
        f"{message}. See measurement.gates, measurement.max_failed_rate and measurement.on_invalid of the config. "
        f"The requests are in {rejected}, the server's log is {paths.server_log}. "
        "Finished points are kept; call snakemake again to go on."
    )
