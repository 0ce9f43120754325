"""Why a measured point does not count: its numbers are beyond a gate, or its server ran otherwise than asked."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from ..analysis import validity
from ..analysis.gates import OTHERWISE
from ..errors import UserError
from ..serving.effective import Difference
from ..study.design import Run

log = logging.getLogger(__name__)


class OptionsError(UserError):
    """A server runs with other options than those that the study compares."""


def served_otherwise(session: Mapping[str, Any]) -> str | None:
    """Say in which options that the study compares a server ran otherwise than asked; None: in none.

    Args:
        session: the server's start, an entry of `sessions` in run.json.
    """
    found = [Difference(**entry) for entry in session["differences"]]
    texts = [str(difference) for difference in found if difference.compared]
    return f"{OTHERWISE}: {', '.join(texts)}" if texts else None


def invalid(record: Mapping[str, Any], measurement: Mapping[str, Any]) -> str | None:
    """Say why a point is invalid by the current limits, which may have changed since it was measured; None: it is not.

    Args:
        record: the point's entry in the journal, with its whole session.
        measurement: the config's section.
    """
    beyond = validity.invalid(record["validity"], validity.limits(measurement))
    return "; ".join(filter(None, (served_otherwise(record["session"]), beyond))) or None


def check_options(run: Run, session: Mapping[str, Any]) -> None:
    """Log the options that a server runs with otherwise than asked, or of which it tells nothing.

    Args:
        run: what is to be measured on it.
        session: the server's start.

    Raises:
        OptionsError: when the study compares such an option and the config has invalid points fail the run.
    """
    asked, told = session["asked"], session["effective"]
    if untold := [name for name, value in asked.items() if value is not None and told[name] is None]:
        log.warning("the engine does not tell whether it runs with what was asked: %s", ", ".join(untold))
    for entry in session["differences"]:
        log.warning("option %s", Difference(**entry))
    reason = served_otherwise(session)
    if reason is not None and run.measurement["on_invalid"] == "fail":
        raise OptionsError(
            f"{run.folder}: its server is {reason}. Nothing was measured on it. Ask in the config's serving, "
            f"experiments.{run.experiment}.setups or quantizations for what the engine does, leave that setup out, or "
            "set measurement.on_invalid: mark, which measures it and marks its points as invalid. "
            f"The server's log is {session['server_log']}."
        )
