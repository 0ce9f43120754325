"""Compiled kernels, kept per environment and kind of GPU: what a server start compiles is there for the next one."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import toolkit

FOLDER = "kernels"
"""In the environment's folder, so that it goes when the environment is built again."""
NOT_COMPILED = {".json", ".lock", ".log", ".tmp", ".txt"}
"""Suffixes of what engines write beside compiled code, also when they compile nothing."""


@dataclass(frozen=True)
class KernelCache:
    """A folder of compiled kernels.

    Attributes:
        folder: its absolute path.
        variables: environment variables that name it and its parts.
    """

    folder: Path
    variables: Mapping[str, str]

    @classmethod
    def open(cls, environment: Path, gpus: Sequence[str], own: Mapping[str, str]) -> KernelCache | None:
        """The cache of an environment's servers on a kind of GPU; None where the environment has no CUDA toolkit.

        Args:
            environment: folder of the engine's environment.
            gpus: names of the server's GPUs.
            own: the engine's own variables -> subfolders.

        Raises:
            ToolkitError: when nothing can be written there.
        """
        if toolkit.cuda_home(environment) is None:
            return None
        kind = "+".join(re.sub(r"[^\w.]+", "-", name) for name in sorted(set(gpus))) or "no-gpu"
        folder = environment.absolute() / FOLDER / kind
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise toolkit.ToolkitError(f"compiled kernels cannot be kept in {folder}: {error}") from None
        if not os.access(folder, os.W_OK):
            raise toolkit.ToolkitError(f"compiled kernels cannot be kept in {folder}: let this user write there")
        return cls(folder, toolkit.caches(folder, own))

    def files(self) -> frozenset[Path]:
        """What has been compiled."""
        walked = os.walk(self.folder)  # which a folder that vanishes meanwhile does not trouble
        files = (Path(folder, name) for folder, _, names in walked for name in names)
        return frozenset(file for file in files if file.suffix not in NOT_COMPILED)
