"""Energy of the machine's processors and memory, from the counters that Linux shows of them (RAPL).

The files belong to root on most machines: where they cannot be read the energy is unknown, never 0.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
COUNTED = ("package", "dram")
"""How the names of counted domains begin: processors, and memory where it is told. The others are parts of a package,
or hold it (`psys`)."""


class HostEnergy:
    """A counter (J) that starts at 0 with its first reading, and goes on where those of the kernel wrap around.

    Two readings must not be further apart than a counter takes to wrap: a minute at the least, under full power.

    Args:
        root: the folder with a folder a domain.
    """

    def __init__(self, root: Path = POWERCAP) -> None:
        self._domains = [folder for folder in sorted(root.glob("intel-rapl:*")) if _name(folder).startswith(COUNTED)]
        self._last: list[int] | None = None
        self._joules = 0.0

    def read(self) -> float | None:
        """Return the energy since the first reading (J, sum over domains); None where any domain cannot be read."""
        try:
            now = [_number(folder / "energy_uj") for folder in self._domains]
            before = self._last or now
            pairs = zip(self._domains, before, now, strict=True)
            wrapped = sum(_number(folder / "max_energy_range_uj") for folder, old, new in pairs if new < old)
        except (OSError, ValueError):
            return None
        if not now:
            return None
        self._joules += (sum(now) - sum(before) + wrapped) / 1e6
        self._last = now
        return self._joules


def _number(file: Path) -> int:
    return int(file.read_text())


def _name(folder: Path) -> str:
    with contextlib.suppress(OSError):
        return (folder / "name").read_text().strip()
    return ""
