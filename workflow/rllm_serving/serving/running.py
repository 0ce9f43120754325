"""A server that already runs: found by a request, asked what it says of itself, left alone for one run at a time."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from .endpoints import Address, Endpoint, EndpointError, hide
from .kernel_cache import KernelCache

LOCKS = Path("/tmp/rllm-serving-endpoints")
"""A fixed folder, not TMPDIR: jobs with different ones must find the same locks."""
LOCK_POLL_S = 1.0
LIST_TIMEOUT_S = 10.0
LONGEST_LIST = 1 << 20
"""Bytes of a list of models that are read."""
CHANGING = ("created", "permission")
"""What lists of models say otherwise at every call."""

log = logging.getLogger(__name__)


class RunningServer:
    """One session with a server that already runs: entering it proves that it answers; leaving it leaves it running.

    Attributes:
        endpoint: where it is and how it is asked.
        url: its address.
        startup_s: seconds that the first answer took.
        reported: what it says of itself: `server` (header) and `models` (its list), null where it says nothing.
    """

    def __init__(self, endpoint: Endpoint, prove: Callable[[], str | None], record: Path) -> None:
        """Prepare a session.

        Args:
            endpoint: the server.
            prove: sends one small request; returns why it failed, or None.
            record: file that what it says of itself is written to.
        """
        self.endpoint, self.url, self.record = endpoint, endpoint.url, record
        self.startup_s: float | None = None
        self.kernels: KernelCache | None = None
        self.compiled: int | None = None
        self.reported: dict[str, Any] = {}
        self._prove = prove
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._open.enter_context(alone(self.url))
        try:
            started = time.monotonic()
            problem = self._prove()
            if problem is not None:
                raise EndpointError(
                    f"engines.{self.endpoint.name}: {self.url} did not answer as '{self.endpoint.model}': {problem}"
                )
            self.startup_s = time.monotonic() - started
            self.reported = reported(self.endpoint)
            self.record.parent.mkdir(parents=True, exist_ok=True)
            self.record.write_text(json.dumps({"url": self.url, **self.reported}, indent=1) + "\n", encoding="utf-8")
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def kernel_files(self) -> None:
        """What a server compiles that is not ours is not known."""

    def flush(self, timeout_s: float = 10.0) -> None:
        """Do nothing: its caches are its own."""

    def check(self, grace_s: float = 0.0) -> None:
        """Do nothing: requests that fail say what there is to say."""


def reported(endpoint: Endpoint) -> dict[str, Any]:
    """Return what a server says of itself; nothing depends on it, so that it may say nothing."""
    address, key = Address.of(endpoint.url, "/models"), endpoint.key()
    found: dict[str, Any] = {"server": None, "models": None}
    kinds = http.client.HTTPSConnection if address.tls else http.client.HTTPConnection
    options: dict[str, Any] = {"context": address.context()} if address.tls else {}
    connection = kinds(address.host, address.port, timeout=LIST_TIMEOUT_S, **options)
    try:
        connection.request("GET", address.path, headers={} if key is None else {"Authorization": f"Bearer {key}"})
        answer = connection.getresponse()
        found["server"] = answer.getheader("Server")
        content = json.loads(hide(answer.read(LONGEST_LIST).decode("utf-8", "replace"), key))
        if answer.status == 200 and isinstance(content, dict) and isinstance(content.get("data"), list):
            found["models"] = [
                {name: value for name, value in entry.items() if name not in CHANGING}
                for entry in content["data"]
                if isinstance(entry, dict) and endpoint.model in (entry.get("id"), *(entry.get("aliases") or ()))
            ]
    except (OSError, http.client.HTTPException, ValueError):
        log.info("%s has no list of models", endpoint.url)
    finally:
        connection.close()
    return found


@contextmanager
def alone(url: str) -> Iterator[None]:
    """Keep other runs on this machine from measuring the same server while the context is open; waits for them.

    Raises:
        EndpointError: when the lock cannot be opened.
    """
    file = LOCKS / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}.lock"
    umask = os.umask(0)
    try:
        LOCKS.mkdir(mode=0o1777, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(file, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o444))
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        raise EndpointError(
            f"the lock of {url} cannot be opened ({error}): let all users of this machine read and write in {LOCKS}"
        ) from None
    finally:
        os.umask(umask)
    try:
        waits = False
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waits:
                    log.info("waiting for another run on this machine that measures %s", url)
                    waits = True
                time.sleep(LOCK_POLL_S)
        yield
    finally:
        os.close(descriptor)
