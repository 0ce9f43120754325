"""Programs of other environments, run to their end."""

from __future__ import annotations

import logging
import os
import subprocess
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from ..lifetime.workflow import supervised
from .gpus import NO_GPUS, GpuLease

log = logging.getLogger(__name__)
LAST_LINES = 10


class ChildError(RuntimeError):
    """A program ended with an error; the message has its exit code and its last lines."""


def run_in_environment(
    name: str, python: Path, module: str, arguments: Sequence[str], gpus: GpuLease = NO_GPUS, **variables: str
) -> None:
    """Run a module of this library with another environment's Python, on one core; it ends with the workflow.

    Args:
        name: what its lines are logged under.
        python: the environment's interpreter.
        module: the module.
        arguments: the module's command line.
        gpus: the GPUs that it sees; they stay locked until it is gone, even if this process is killed.
        **variables: environment variables for it, beside this process's own.

    Raises:
        ChildError: when it fails.
    """
    library = str(Path(__file__).parents[2])
    fixed = {"PYTHONPATH": library, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    last: deque[str] = deque(maxlen=LAST_LINES)
    with supervised(
        [str(python), "-m", module, *arguments],
        env=os.environ | fixed | variables | gpus.variables,
        pass_fds=gpus.locks,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            log.info("%s: %s", name, line.rstrip())
            last.append(line)
    if child.returncode:
        raise ChildError(f"ended with code {child.returncode}: {''.join(last)}")
