"""Where a job says what it does: its log file and standard error; errors meant for users come without a traceback."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import UserError


@contextmanager
def logged(path: str | Path) -> Iterator[logging.Logger]:
    """Log to `path` and standard error; end the process with code 1 after a UserError, saying it once."""
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
    except UserError as error:
        logger.error("%s", error)
        sys.exit(1)
    except Exception:
        logger.exception("unexpected error, please report it")
        sys.exit(1)
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()
