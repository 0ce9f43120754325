"""One start of a server, as run.json tells it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..serving import effective, hardware
from ..serving.memory import KvPool
from ..serving.server import Server
from . import kv_pool


def describe_start(server: Server, pool: KvPool | None, start: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a server's start: its command, options, kernels, KV pool and hardware, and its time.

    Args:
        server: it is ready.
        pool: its KV pool as computed; None where the engine decides.
        start: what `warm_server` tells of it.

    Raises:
        KvPoolError: when it made a smaller pool than it was told.
    """
    started = datetime.now(UTC).isoformat(timespec="seconds")
    return {
        "id": f"{started}/{server.port}",
        "command": server.command,
        "environment": server.environment,
        "server_niceness": server.niceness,
        "client_priority": "normal" if server.niceness else "realtime",
        "server_log": str(server.log),
        "kernels": server.engine.selected_backends(server.log),
        **start,
        **effective.describe(server),
        "kv_pool": kv_pool.describe(pool, server.engine.reported_pool(server.log)),
        "hardware": hardware.describe(server.gpus.uuids),
        "git_commit": hardware.git_commit(Path(__file__).parent),
    }
