"""The catalogue of tables and figures: what each is made from, by what, and when an experiment can give it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..study.budgets import measured_budgets
from ..study.study import Study


@dataclass(frozen=True)
class Traits:
    """What decides which tables and figures an experiment can give.

    Attributes:
        budgets: number of token budgets, derived ones among them.
        checked: whether some measured budget is derived as well.
        batches: number of batch loads.
        sized: whether some load has a size.
        sampled: whether some server has metrics of its own; of those that already run not all have.
        open_loop: whether some load is open-loop.
        greedy: whether chance plays no part in sampling.
        setups: whether there are several setups or weight formats.
        engines: whether some run is compared with the same on the first engine.
        changes: whether some run is compared with the baseline; that may be unsupported.
        starts: how often each server is started.
        roles: whether both models of a pair are served.
    """

    budgets: int
    checked: bool
    batches: int
    sized: bool
    sampled: bool
    open_loop: bool
    greedy: bool
    setups: bool
    engines: bool
    changes: bool
    starts: int
    roles: bool

    @classmethod
    def of(cls, study: Study, experiment: str) -> Traits:
        """Return those of an experiment."""
        entry, runs = study.config["experiments"][experiment], study.experiments[experiment]
        models, derivations = {run.model for run in runs}, study.derivations[experiment]
        compared = {basis: bool(study.comparisons(experiment, basis)) for basis in ("engine", "baseline")}
        return cls(
            budgets=len({*measured_budgets(entry), *(derivation.budget for derivation in derivations)}),
            checked=any(derivation.is_check for derivation in derivations),
            batches=sum(load["type"] == "batch" for load in entry["loads"]),
            sized=any("size" in load for load in entry["loads"]),
            sampled=any(run.endpoint is None or run.endpoint["metrics"] is not None for run in runs),
            open_loop=study.open_loop(experiment),
            greedy={**study.config["sampling"], **entry["sampling"]}["temperature"] == 0,
            setups=len({(run.quantization, run.setup) for run in runs}) > 1,
            engines=compared["engine"],
            changes=compared["baseline"],
            starts=study.starts(experiment),
            roles=any(len(pair) > 1 and {*pair.values()} <= models for pair in study.pairs.values()),
        )


@dataclass(frozen=True)
class Output:
    """A table or a figure.

    Attributes:
        sources: files that it is made from, in the order of the function's arguments: `requests` and `server` are those
            of each run, the others (results/analysis/EXPERIMENT/{source}.parquet) those of the experiment.
        possible: whether an experiment with such traits can give it.
        function: of a figure, "module:function" in report/figures; a table's is its namesake in `tables`.
    """

    sources: tuple[str, ...]
    possible: Callable[[Traits], bool]
    function: str = ""


TABLES = {
    "main": Output(("summary",), lambda traits: True),
    "worth": Output(("summary",), lambda traits: True),
    "stragglers": Output(("summary",), lambda traits: True),
    "difficulty": Output(("difficulty",), lambda traits: True),
    "domain": Output(("domain",), lambda traits: True),
    "engines": Output(("comparison-engine",), lambda traits: traits.engines),
    # Whether engines agree is asked where chance plays no part.
    "agreement": Output(("comparison-engine",), lambda traits: traits.engines and traits.greedy),
    "optimisations": Output(("comparison-baseline",), lambda traits: traits.changes),
    "interaction": Output(("interaction-baseline",), lambda traits: traits.changes and traits.roles),
    "decomposition": Output(("decomposition-baseline",), lambda traits: traits.changes),
    "noise": Output(("starts",), lambda traits: traits.starts > 1),
    "traffic": Output(("summary",), lambda traits: traits.open_loop),
    "derived_budgets": Output(("derived_budgets",), lambda traits: traits.checked),
}
# Sweeps need two values of what they sweep, most figures one setup.
FIGURES = {
    "budget": Output(("summary",), lambda traits: traits.budgets > 1 and not traits.setups, "sweep:budget"),
    "batch": Output(("summary",), lambda traits: traits.batches > 1 and not traits.setups, "sweep:batch"),
    "timeline": Output(
        ("server", "points"),
        lambda traits: traits.sized and traits.sampled and not traits.setups,
        "timeline:timeline",
    ),
    "stragglers": Output(
        ("requests", "summary"), lambda traits: traits.batches > 0 and not traits.setups, "stragglers:stragglers"
    ),
    "difficulty": Output(("difficulty",), lambda traits: traits.sized and not traits.setups, "difficulty:difficulty"),
    "domain": Output(("domain",), lambda traits: not traits.setups, "domain:domain"),
    "engines": Output(("comparison-engine",), lambda traits: traits.engines, "ratios:engines"),
    "optimisations": Output(("comparison-baseline",), lambda traits: traits.changes, "ratios:optimisations"),
    "decomposition": Output(("decomposition-baseline",), lambda traits: traits.changes, "decomposition:decomposition"),
    "traffic": Output(("summary",), lambda traits: traits.open_loop and not traits.setups, "traffic:traffic"),
    "pareto": Output(("summary",), lambda traits: traits.setups, "pareto:pareto"),
}


def possible(outputs: Mapping[str, Output], study: Study, experiment: str) -> list[str]:
    """Return the names of the outputs (TABLES or FIGURES) that an experiment can give."""
    traits = Traits.of(study, experiment)
    return [name for name, output in outputs.items() if output.possible(traits)]
