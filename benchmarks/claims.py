"""How often claims get a wrong verdict, and how often a right one: made-up studies whose truth is known.

    PYTHONPATH=workflow python benchmarks/claims.py [STUDIES]

A study is that of config/config.yaml in size: two engines, a pair, 64 questions a dataset, three starts. Every start
has a noise that all of its conditions share, and every condition one of its own. Prints for each truth: studies with a
wrong verdict on any primary hypothesis, wrong and right verdicts a hypothesis.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rllm_serving.analysis.points import LINEAR
from rllm_serving.claims.decisions import FAILS, HOLDS, NOT_TESTED, UNDECIDED
from rllm_serving.claims.definitions import OVER_STARTS, read_claims
from rllm_serving.claims.evaluation import ExperimentRows, evaluate
from rllm_serving.claims.facts import StudyFacts
from rllm_serving.study.subjects import BY_KIND

CLAIMS = Path(__file__).parents[1] / "resources" / "claims.yaml"
LEVELS = {"arith-easy": 0, "arith-medium": 1, "arith-hard": 2}
ENGINES, MODELS = ("vllm", "sglang"), {"llm": "micro-llm", "rllm": "micro-rllm"}
SETUPS: dict[str, Mapping[str, Any]] = {
    "kv-fp8": {"kv_cache_dtype": "fp8-e4m3"},
    "no-cache": {"prefix_cache": False},
    "spec": {"speculative": "draft"},
}
WEIGHTS = ("gptq-int4", "awq-int4")


@dataclass(frozen=True)
class Truth:
    """True effects: logs of ratios of times, rates and gauges, differences of shares; see `theta` and `accuracy`."""

    held: float
    swing: float
    tail: float
    rllm_level: float
    llm_level: float
    batch_e2e: float
    batch_throughput: float
    batch_ttfvt: float
    awq_e2e: float
    fp8_e2e: float
    no_cache_e2e: float
    spec_e2e: float
    spec_throughput: float
    spec_ttfvt: float
    world_ttfvt: float
    mathematics: float
    knowledge: float
    budget: float
    batch_accuracy: float
    changed_accuracy: float
    gptq_hard_accuracy: float


def _ends(value: float) -> float:
    return float(np.log1p(value))


AS_CLAIMED = Truth(
    *(1.5, 1.5, 0.2, 0.5, 0.0, 0.8, 0.8, 0.6, 0.7, -0.2, 0.2, -0.3, -0.2, 0.3, 1.0),
    *(0.4, 0.0, 0.0, 0.0, 0.0, -0.3),
)
OPPOSITE = Truth(
    *(-0.5, -0.5, -0.2, 0.0, 0.6, -0.3, -0.4, -0.4, -0.2, 0.3, -0.3, 0.3, 0.3, -0.3, -0.5),
    *(-0.3, -0.4, 0.4, 0.4, -0.35, -0.35),
)
ON_THE_MARGIN = Truth(
    *(_ends(0.25), _ends(0.25), 0.05, _ends(0.25) / 2, _ends(0.25) / 2, _ends(0.05), _ends(0.05), _ends(0.05)),
    *(_ends(0.5), -_ends(0.03), _ends(0.03), -_ends(0.03), -_ends(0.03), _ends(0.03), _ends(0.05)),
    *(0.03, 0.05, 0.03, 0.03, -0.03, -0.03),
)
TRUTHS = {"as claimed": AS_CLAIMED, "the opposite": OPPOSITE, "on the margin": ON_THE_MARGIN}


@dataclass(frozen=True)
class Size:
    """How much a study measures, and how noisy it is.

    Attributes:
        questions: a dataset.
        starts: of a server.
        start_noise: standard deviation of the log between starts, shared by all conditions of one.
        own_noise: of each condition in a start.
    """

    questions: int = 64
    starts: int = 3
    start_noise: float = 0.05
    own_noise: float = 0.03


MICRO = Size()
QUIET = Size(questions=4000, start_noise=0.003, own_noise=0.003)
Server = tuple[str, str, str, str]
Condition = tuple[str, str, int, int]
SERVERS = [("bf16", "baseline")]
CHANGED = [("bf16", setup) for setup in SETUPS] + [(weights, "baseline") for weights in WEIGHTS]
EXPERIMENTS: dict[str, tuple[list[tuple[str, str]], list[Condition]]] = {
    "pilot-budget": (
        SERVERS,
        [(dataset, "batch-16", 16, budget) for dataset in (*LEVELS, "facts-mcq") for budget in (64, 256, 1024)],
    ),
    "pilot-batch": (
        SERVERS,
        [(dataset, f"batch-{size}", size, 1024) for dataset in ("arith-hard", "facts-mcq") for size in (4, 16)],
    ),
    "optimisations": (
        SERVERS + CHANGED,
        [(dataset, "closed-16", 16, 1024) for dataset in ("arith-easy", "arith-hard", "facts-mcq")],
    ),
    "real-world": (SERVERS, [("arith-hard", "open-0.7", 1, 1024)]),
}


def theta(metric: str, role: str, candidate: tuple[str, str], condition: Condition, truth: Truth) -> float:
    """Return the true value of a metric on its scale (the log, or as it is)."""
    dataset, _, size, _ = condition
    rllm, weights, setup = role == "rllm", *candidate
    large = size == 16
    level = LEVELS.get(dataset, 0) * (truth.rllm_level if rllm else truth.llm_level)
    if metric in ("kv_held_tokens_mean", "kv_cache_usage_mean"):
        return truth.held * rllm
    if metric == "kv_held_tokens_swing":
        return truth.swing * rllm
    if metric in LINEAR:
        return 0.2 + truth.tail * rllm
    if metric == "output_throughput":
        return truth.batch_throughput * large + truth.spec_throughput * (setup == "spec")
    if metric == "ttfvt_mean":
        world = truth.world_ttfvt * rllm * (size == 1)
        return truth.batch_ttfvt * large + truth.spec_ttfvt * (setup == "spec") + world
    changes = {"kv-fp8": truth.fp8_e2e, "no-cache": truth.no_cache_e2e, "spec": truth.spec_e2e}
    return level + truth.batch_e2e * large + changes.get(setup, 0.0) + truth.awq_e2e * (weights == "awq-int4")


def accuracy(role: str, candidate: tuple[str, str], condition: Condition, truth: Truth) -> float:
    """Return the true accuracy of a model under a condition."""
    dataset, _, size, budget = condition
    gain = truth.knowledge if dataset == "facts-mcq" else truth.mathematics
    value = 0.45 + gain * (role == "rllm") + truth.batch_accuracy * (size == 16) - truth.batch_accuracy / 2
    value += truth.budget * (budget == 1024) - truth.budget / 2
    if candidate == ("gptq-int4", "baseline") and dataset == "arith-hard":
        return value + truth.gptq_hard_accuracy
    return value + truth.changed_accuracy * (candidate != SERVERS[0])


def study(truth: Truth, size: Size, rng: np.random.Generator | None) -> dict[str, ExperimentRows]:
    """Return a made-up study; without a generator the truth itself, free of noise."""
    return {
        name: _experiment(name, servers, conditions, truth, size, rng)
        for name, (servers, conditions) in EXPERIMENTS.items()
    }


def _experiment(
    name: str,
    servers: list[tuple[str, str]],
    conditions: list[Condition],
    truth: Truth,
    size: Size,
    rng: np.random.Generator | None,
) -> ExperimentRows:
    starts, questions = [], []
    datasets = sorted({condition[0] for condition in conditions})
    draws = {dataset: np.arange(size.questions) / size.questions for dataset in datasets}
    if rng is not None:
        draws = {dataset: rng.random(size.questions) for dataset in datasets}
    for engine, (role, model), candidate in product(ENGINES, MODELS.items(), servers):
        server = {"experiment": name, "engine": engine, "model": model}
        server |= dict(zip(("quantization", "setup"), candidate, strict=True))
        for start in range(1, size.starts + 1):
            shared = {metric: _normal(rng, size.start_noise) for metric in OVER_STARTS}
            for condition in conditions:
                row: dict[str, Any] = {**server, "start": start, "restart": 0, **_named(condition)}
                row |= {"derived_from": np.nan, "invalid": None}
                for metric in OVER_STARTS:
                    value = theta(metric, role, candidate, condition, truth)
                    value += shared[metric] + _normal(rng, size.own_noise)
                    row[metric] = value if metric in LINEAR else float(np.exp(value))
                starts.append(row)
        for condition in conditions:
            p = float(np.clip(accuracy(role, candidate, condition, truth), 0.0, 1.0))
            questions.append(_answers(server, condition, p, draws[condition[0]], rng))
    points = pd.DataFrame(starts).assign(repeat=0)
    return ExperimentRows(points, pd.DataFrame(starts), pd.concat(questions, ignore_index=True))


def _normal(rng: np.random.Generator | None, deviation: float) -> float:
    return 0.0 if rng is None else float(rng.normal(0, deviation))


def _named(condition: Condition) -> dict[str, Any]:
    return dict(zip(("dataset", "load", "load_level", "budget"), condition, strict=True))


def _answers(
    server: Mapping[str, Any], condition: Condition, p: float, drawn: Any, rng: np.random.Generator | None
) -> pd.DataFrame:
    """Questions that are hard for one server are hard for the others: most share the draw, some have their own."""
    count = len(drawn)
    if rng is None:
        correct = np.full(count, p)
    else:
        correct = (np.where(rng.random(count) < 0.7, drawn, rng.random(count)) < p).astype(float)
    values = {"question_id": [f"q{place}" for place in range(count)], "requests": 1, "completed": 1, "correct": correct}
    return pd.DataFrame({**server, **_named(condition), **values})


def facts() -> StudyFacts:
    """Return what the made-up study says of itself."""
    return StudyFacts(
        pairs={"micro": MODELS},
        engines=list(ENGINES),
        subjects={name: BY_KIND[name] for name in (*LEVELS, "facts-mcq")},
        setups={"baseline": {}, **SETUPS},
        methods={"bf16": "bf16", **{name: name for name in WEIGHTS}},
        loads={
            name: list(dict.fromkeys(load for _, load, _, _ in conditions))
            for name, (_, conditions) in EXPERIMENTS.items()
        },
    )


def primary_claims() -> dict[str, dict[str, Any]]:
    """Return the claims with what their verdicts rest on alone."""
    claims = read_claims(CLAIMS)
    for claim in claims.values():
        claim["hypotheses"] = {
            name: {**hypothesis, "control": False, "each_dataset": False}
            for name, hypothesis in claim["hypotheses"].items()
            if hypothesis["primary"]
        }
    return claims


def true_verdicts(rows: pd.DataFrame) -> pd.Series:
    """Return whether each hypothesis is true, of rows that were evaluated on the truth; the margin itself is not."""
    margin, effect = rows["margin"], np.where(rows["scale"] == "ratio", np.log(rows["effect"]), rows["effect"])
    ends = np.where(rows["scale"] == "ratio", np.copysign(np.log1p(margin.abs()), margin), margin)
    tolerance = 1e-9
    inside = np.abs(effect) < ends - tolerance
    true = np.where(rows["direction"] == "greater", effect > ends + tolerance, effect < -ends - tolerance)
    return pd.Series(np.where(rows["direction"] == "within", inside, true), rows.index)


def main(studies: int) -> None:
    """Print the rates."""
    claims, known = primary_claims(), facts()
    print("| truth | studies with a wrong verdict | wrong a hypothesis | right | undecided |")
    print("|---|---|---|---|---|")
    for name, truth in TRUTHS.items():
        exact = evaluate(claims, study(truth, replace(MICRO, questions=200), None), known)
        tested = exact["verdict"] != NOT_TESTED
        true = true_verdicts(exact)[tested]
        wrong_studies, wrong, right, undecided = 0, 0.0, 0.0, 0.0
        for seed in range(studies):
            found = evaluate(claims, study(truth, MICRO, np.random.default_rng([seed, len(name)])), known)
            verdicts = found.loc[tested, "verdict"]
            is_wrong = ((verdicts == HOLDS) & ~true) | ((verdicts == FAILS) & true)
            wrong_studies += int(is_wrong.any())
            wrong += float(is_wrong.mean())
            undecided += float((verdicts == UNDECIDED).mean())
            right += float((~is_wrong & (verdicts != UNDECIDED)).mean())
        shares = [wrong_studies / studies, wrong / studies, right / studies, undecided / studies]
        print(f"| {name} | " + " | ".join(f"{100 * share:.1f} %" for share in shares) + " |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
