"""Where a job says what it does: its log file and standard error; errors meant for users come without a traceback.

What is logged is a job of the workflow, and ends with it: see `lifetime`.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import UserError
from .lifetime.workflow import ends_with_workflow


@contextmanager
def logged(path: str | Path) -> Iterator[logging.Logger]:
    """Log to `path` and standard error; end the process with code 1 after a UserError, saying it once.

    The process ends, too, when the workflow does.
    """
    logger = logging.getLogger("rllm_serving")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    form = logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S")
    handlers = (logging.FileHandler(path, mode="w"), logging.StreamHandler(sys.stderr))
    for handler in handlers:
        handler.setFormatter(form)
        logger.addHandler(handler)
    try:
        with ends_with_workflow():
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
