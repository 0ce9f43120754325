"""The tables and figures that an experiment of a study can give."""

from __future__ import annotations

from ..study.study import Study


def _several(study: Study, experiment: str) -> tuple[bool, bool]:
    """Whether an experiment has several engines, and several setups or weight formats."""
    runs = study.experiments[experiment]
    return len({run.engine for run in runs}) > 1, len({(run.quantization, run.setup) for run in runs}) > 1


def figures(study: Study, experiment: str) -> list[str]:
    """Figures that an experiment can give: sweeps need two values of what they sweep, others one setup."""
    entry = study.config["experiments"][experiment]
    batches = [load for load in entry["loads"] if load["kind"] == "batch"]
    sized = [load for load in entry["loads"] if "size" in load]
    engines, setups = _several(study, experiment)
    wanted = {
        "budget": len(entry["budgets"]) > 1 and not setups,
        "batch": len(batches) > 1 and not setups,
        "timeline": bool(sized) and not setups,
        "stragglers": bool(batches) and not setups,
        "difficulty": bool(sized) and not setups,
        "domain": not setups,
        "engines": engines,
        "optimisations": setups,
        "why": setups,
        "traffic": study.scheduled(experiment) and not setups,
    }
    return [name for name, possible in wanted.items() if possible]


def tables(study: Study, experiment: str) -> list[str]:
    """Tables that an experiment can give; whether engines agree is asked where chance plays no part."""
    entry = study.config["experiments"][experiment]
    engines, setups = _several(study, experiment)
    greedy = {**study.config["sampling"], **entry["sampling"]}["temperature"] == 0
    wanted = {"engines": engines, "agreement": engines and greedy, "optimisations": setups, "why": setups}
    wanted["traffic"] = study.scheduled(experiment)
    return ["main", "stragglers", "difficulty", "domain", *(name for name, possible in wanted.items() if possible)]
