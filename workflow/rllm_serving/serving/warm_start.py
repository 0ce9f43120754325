"""A server whose kernels were compiled before its start is measured, and what was compiled when."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .target import Target

log = logging.getLogger(__name__)


@contextmanager
def warm_server(start: Callable[[], Target], again: bool) -> Iterator[tuple[Target, dict[str, Any]]]:
    """Start a server, and once more if it compiled kernels while it started.

    Compiling takes seconds to half an hour, once for a machine: it says nothing about how long a server takes to start.
    What is compiled only when requests come is compiled in the rounds of warming up.

    Args:
        start: makes the server; called once or twice.
        again: whether to start it once more at all.

    Yields:
        The server, and what run.json tells of its start: `startup_seconds` (None where it compiled and was not started
        again), and `kernel_cache` (None for a server without a CUDA toolkit): `folder`; `compiled`, files that this
        start compiled; `cold_seconds`, the time of the start that compiled them, None where all were there.
    """
    server = start()
    cold: Target | None = None
    with server:
        if not server.compiled or not again:
            yield server, _record(server, server if server.compiled else None)
            return
        cold = server
        log.info("kernels were compiled while the server started (%d files): it is started again", server.compiled)
    with start() as server:
        yield server, _record(server, cold)


def _record(server: Target, cold: Target | None) -> dict[str, Any]:
    kept = {"startup_seconds": None if cold is server else server.startup_s, "kernel_cache": None}
    if server.kernels is None:
        return kept
    folder, seconds = str(server.kernels.folder), cold.startup_s if cold else None
    return {**kept, "kernel_cache": {"folder": folder, "compiled": server.compiled, "cold_seconds": seconds}}


def compiled_since(server: Target, before: frozenset[Path] | None, name: str) -> int | None:
    """Files of kernels that were compiled while a point ran; None where that is not known.

    Args:
        server: the server.
        before: the files that were there before the point, of `Server.kernel_files`.
        name: the point's, for a warning: its times have the compiling in them, which those of a repeat have not.
    """
    after = server.kernel_files()
    if before is None or after is None:
        return None
    if compiled := len(after - before):
        log.warning("kernels were compiled while point %s ran (%d files)", name, compiled)
    return compiled
