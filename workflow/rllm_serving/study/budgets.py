"""Token budgets of an experiment: those that are measured, and those that are derived from a larger measured one.

Under a smaller budget a model draws the same tokens, as far as its draws are the same, and is cut off sooner: what it
says then is known from the answer under a larger budget. How long it takes is not: that is known where it is measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .config_errors import ConfigError


class Derivation(NamedTuple):
    """A budget whose answers are cut out of those of a larger one.

    Attributes:
        budget: tokens.
        source: the smallest measured budget that is larger, tokens.
        is_check: whether `budget` was measured as well: then its derived answers are set beside the measured ones, and
            used for nothing else.
    """

    budget: int
    source: int
    is_check: bool


def measured_budgets(experiment: Mapping[str, Any]) -> list[int]:
    """Return the budgets that an experiment measures, in the config's order.

    Args:
        experiment: its entry in the completed config.
    """
    budgets = experiment["budgets"]
    return list(budgets["measured"] if isinstance(budgets, Mapping) else budgets)


def derivations(experiment: Mapping[str, Any]) -> list[Derivation]:
    """Return what is derived, in the order of the budgets; nothing where the experiment has no derived budgets.

    Measured budgets are derived as well where a larger one was measured.

    Args:
        experiment: its entry in the completed config, checked by `check_budgets`.
    """
    measured, derived = measured_budgets(experiment), _derived(experiment)
    if not derived:
        return []
    larger = {budget: [other for other in measured if other > budget] for budget in sorted({*measured, *derived})}
    return [Derivation(budget, min(those), budget in measured) for budget, those in larger.items() if those]


def check_budgets(key: str, experiment: Mapping[str, Any], endpoints: Sequence[str] = ()) -> None:
    """Check that every derived budget has a larger measured one, and that its answers may be cut.

    Args:
        key: dotted key of the experiment.
        experiment: its entry in the completed config.
        endpoints: of its engines those that are servers which already run.

    Raises:
        ConfigError: for the first budget that cannot be derived.
    """
    measured, derived = measured_budgets(experiment), _derived(experiment)
    for place, budget in enumerate(derived):
        if budget in measured:
            raise ConfigError(
                f"{key}.budgets.derived.{place}: {budget} is measured already, and is then compared with what would be "
                "derived; remove it from either list"
            )
        if budget > max(measured):
            raise ConfigError(
                f"{key}.budgets.derived.{place}: {budget} is larger than every measured budget, and answers can only "
                f"be cut; allowed: below {max(measured)}, or a larger one in {key}.budgets.measured"
            )
    if derived and endpoints:
        raise ConfigError(
            f"{key}.budgets.derived: {endpoints[0]} is a server that already runs: how it draws tokens, and with which "
            f"chunk each came, is not known well enough to cut its answers; list all budgets as measured, or leave it "
            f"out of {key}.engines"
        )
    for place, load in enumerate(experiment["loads"]) if derived else ():
        if load.get("replay_output_lengths"):
            raise ConfigError(
                f"{key}.budgets.derived: loads.{place} makes answers as long as its trace has them "
                "(replay_output_lengths), whatever the model would say: nothing can be derived from them; list all "
                "budgets as measured, or remove that load"
            )


def _derived(experiment: Mapping[str, Any]) -> list[int]:
    budgets = experiment["budgets"]
    return list(budgets["derived"]) if isinstance(budgets, Mapping) else []
