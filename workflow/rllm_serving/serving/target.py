"""What a measurement needs of a server, whoever started it."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from .kernel_cache import KernelCache


class Target(Protocol):
    """A server that is measured while its context is open.

    Attributes:
        url: its address.
        startup_s: seconds until it had answered for the first time.
        kernels: where the kernels are kept that it compiles; None: nowhere that is known.
        compiled: files that were compiled in that time; None: not known.
    """

    url: str
    startup_s: float | None
    kernels: KernelCache | None
    compiled: int | None

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def kernel_files(self) -> frozenset[Path] | None:
        """The compiled kernels that are kept for such servers; None where there is no place for them."""

    def flush(self, timeout_s: float = 10.0) -> None:
        """Empty its prefix cache, if it can be told so."""

    def check(self, grace_s: float = 0.0) -> None:
        """Raise when it is known to be gone, or to go within `grace_s`."""
