"""What a measurement needs of a server, whoever started it."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self


class Target(Protocol):
    """A server that is measured while its context is open.

    Attributes:
        url: its address.
        startup_s: seconds until it had answered for the first time.
    """

    url: str
    startup_s: float | None

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def flush(self, timeout_s: float = 10.0) -> None:
        """Empty its prefix cache, if it can be told so."""

    def check(self, grace_s: float = 0.0) -> None:
        """Raise when it is known to be gone, or to go within `grace_s`."""
