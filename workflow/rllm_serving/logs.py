"""Where a job says what it does: its log file and standard error; errors meant for users come without a traceback."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .datasets.loaders import DatasetError
from .datasets.prompts import PromptError
from .environments import EnvironmentBuildError
from .grading.grader import GradingError
from .load.traces import ArrivalError
from .measurement.run import RunError
from .models.checkpoints import ModelError
from .serving.gpus import AllotmentError
from .serving.server import ServerError
from .study.config import ConfigError

FOR_USERS = (
    AllotmentError,
    ArrivalError,
    ConfigError,
    DatasetError,
    EnvironmentBuildError,
    GradingError,
    ModelError,
    PromptError,
    RunError,
    ServerError,
)


@contextmanager
def logged(path: str | Path) -> Iterator[logging.Logger]:
    """Log to `path` and standard error; end the process with code 1 after an error of FOR_USERS, saying it once."""
    logger = logging.getLogger("rllm_serving")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    form = logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S")
    handlers = (logging.FileHandler(path, mode="w"), logging.StreamHandler(sys.stderr))
    for handler in handlers:
        handler.setFormatter(form)
        logger.addHandler(handler)
    try:
        yield logger
    except FOR_USERS as error:
        logger.error("%s", error)
        sys.exit(1)
    except Exception:
        logger.exception("unexpected error, please report it")
        sys.exit(1)
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()
