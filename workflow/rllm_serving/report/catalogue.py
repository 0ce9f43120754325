"""The tables and figures that an experiment of a study can give."""

from __future__ import annotations

from ..study.study import Study

# The function that draws each figure, as `figures.draw` takes it.
FIGURE_FUNCTIONS = {
    "budget": "sweep:budget",
    "batch": "sweep:batch",
    "timeline": "timeline:timeline",
    "stragglers": "stragglers:stragglers",
    "difficulty": "difficulty:difficulty",
    "domain": "domain:domain",
    "engines": "ratios:engines",
    "optimisations": "ratios:optimisations",
    "why": "decomposition:decomposition",
    "traffic": "traffic:traffic",
}


def _setups(study: Study, experiment: str) -> bool:
    """Whether an experiment has several setups or weight formats."""
    return len({(run.quantization, run.setup) for run in study.experiments[experiment]}) > 1


def _compared(study: Study, experiment: str, basis: str) -> bool:
    """Whether some run of an experiment has one to be compared with: a baseline may be unsupported."""
    models = {run.model for run in study.experiments[experiment]}
    return any(study.comparisons(experiment, model, basis) for model in models)


def figures(study: Study, experiment: str) -> list[str]:
    """Figures that an experiment can give: sweeps need two values of what they sweep, others one setup."""
    entry = study.config["experiments"][experiment]
    batches = [load for load in entry["loads"] if load["type"] == "batch"]
    sized = [load for load in entry["loads"] if "size" in load]
    setups, changes = _setups(study, experiment), _compared(study, experiment, "baseline")
    wanted = {
        "budget": len(entry["budgets"]) > 1 and not setups,
        "batch": len(batches) > 1 and not setups,
        "timeline": bool(sized) and not setups,
        "stragglers": bool(batches) and not setups,
        "difficulty": bool(sized) and not setups,
        "domain": not setups,
        "engines": _compared(study, experiment, "engine"),
        "optimisations": changes,
        "why": changes,
        "traffic": study.open_loop(experiment) and not setups,
    }
    return [name for name, possible in wanted.items() if possible]


def tables(study: Study, experiment: str) -> list[str]:
    """Tables that an experiment can give; whether engines agree is asked where chance plays no part."""
    entry = study.config["experiments"][experiment]
    engines, changes = (_compared(study, experiment, basis) for basis in ("engine", "baseline"))
    greedy = {**study.config["sampling"], **entry["sampling"]}["temperature"] == 0
    wanted = {"engines": engines, "agreement": engines and greedy, "optimisations": changes, "why": changes}
    wanted["traffic"] = study.open_loop(experiment)
    return ["main", "stragglers", "difficulty", "domain", *(name for name, possible in wanted.items() if possible)]
