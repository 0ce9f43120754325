"""How GPUs are connected, and which of the free ones a server gets: what is split over GPUs waits for its links."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any

NVLINK = "NVLink"
ANCESTORS = {
    0: "the same board",
    10: "one PCIe switch",
    20: "several PCIe switches",
    30: "one PCIe host bridge",
    40: "one NUMA node",
    50: "several NUMA nodes",
}
"""NVML's levels of the nearest common ancestor of two GPUs, nearest first."""
UNKNOWN = "unknown"
_FARTHEST = 100


def links(uuids: Sequence[str]) -> dict[tuple[str, str], str]:
    """Return how each two of the GPUs are connected: NVLINK, one of ANCESTORS, or UNKNOWN.

    Args:
        uuids: NVML's UUIDs; pairs have their order.
    """
    try:
        import pynvml

        pynvml.nvmlInit()
        handles = {uuid: pynvml.nvmlDeviceGetHandleByUUID(uuid) for uuid in uuids}
    except Exception:  # NVML raises its own errors, and OSError without a driver library
        return dict.fromkeys(combinations(uuids, 2), UNKNOWN)
    return {(one, other): _link(pynvml, handles[one], handles[other]) for one, other in combinations(uuids, 2)}


def _link(nvml: Any, one: Any, other: Any) -> str:
    with contextlib.suppress(nvml.NVMLError):
        # Directly or through a switch: either way memory of the one is read by the other over NVLink.
        if nvml.nvmlDeviceGetP2PStatus(one, other, nvml.NVML_P2P_CAPS_INDEX_NVLINK) == nvml.NVML_P2P_STATUS_OK:
            return NVLINK
    with contextlib.suppress(nvml.NVMLError):
        return ANCESTORS.get(int(nvml.nvmlDeviceGetTopologyCommonAncestor(one, other)), UNKNOWN)
    return UNKNOWN


def distance(link: str) -> int:
    """Order of links: the smaller, the faster."""
    order = {NVLINK: -1} | {name: level for level, name in ANCESTORS.items()}
    return order.get(link, _FARTHEST)


def farthest(found: Sequence[str]) -> str | None:
    """The slowest of links, which is what a server waits for; None where there are none."""
    return max(found, key=distance, default=None)


def closest(uuids: Sequence[str], count: int) -> list[str]:
    """Return the `count` GPUs whose slowest link is the fastest, then whose links are together; else the first ones.

    Args:
        uuids: free GPUs, in the order that they are preferred in.
        count: how many are needed; where there are fewer, all are returned.
    """
    if count < 2 or count >= len(uuids):
        return list(uuids[:count])
    far = {pair: distance(link) for pair, link in links(uuids).items()}

    def cost(group: Iterable[str]) -> tuple[int, int]:
        each = [far[pair] for pair in combinations(group, 2)]
        return max(each), sum(each)

    # The first of equally good groups: combinations come in the order of preference.
    return list(min(combinations(uuids, count), key=cost))
