"""The files of a made-up study as the report's page takes them, small or as large as the paper's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
from conftest import ROOT
from helpers.study_fixtures import Study
from matplotlib.figure import Figure
from rllm_serving.report import effective_options, page, run_records, table_forms, tables

EXPERIMENT = "pilot-budget"
FINGERPRINT = {"code": "b95ca09c76f3d5ac49b3", "model": "9313d413e9bc862ba92a"}


def run_record(**server: Any) -> dict[str, Any]:
    """What a run writes as run.json, as far as the page reads it."""
    keys = {
        "experiment": EXPERIMENT,
        "engine": "vllm",
        "model": "micro_llm",
        "quantization": "bf16",
        "setup": "baseline",
    }
    hardware = {"cpu": "A CPU", "cores": 2, "memory_bytes": 25e9, "gpus": [], "driver": None, "system": "Linux"}
    session = {"startup_seconds": 10.0, "git_commit": "abc123", "hardware": hardware, "restart": 0}
    session |= {"asked": {"prefix_cache": True}, "effective": {"prefix_cache": True}, "differences": []}
    point = {"started_at": "2026-01-01T10:00:00.000+00:00", "duration_s": 60.0, "invalid": None}
    return {
        "server": keys | server,
        "start": 1,
        "fingerprint": FINGERPRINT,
        "config": {"seed": 7},
        "device": "cpu",
        "model": {"source": "micro", "id": None, "commit": None, "parameters": 2_755_328},
        "environment": {"engine_version": "0.32.0", "python": "3.11.7", "lock": "a.txt", "lock_sha256": "75" * 32},
        "sessions": [session],
        "points": [point, point | {"started_at": "2026-01-01T10:05:00.000+00:00", "invalid": "loop_lag_p99_s 90 ms"}],
    }


def claims() -> dict[str, Any]:
    """Two claims of one pair: one with a hypothesis for vLLM, one that was not tested."""
    hypothesis: dict[str, Any] = {
        "claim": "C1",
        "hypothesis": "C1a",
        "says": "KV use is larger",
        "primary": True,
        "pair": "micro",
    }
    hypothesis |= {"engine": "vllm", "experiment": EXPERIMENT, "dataset": "arith-hard", "role": "rllm"}
    hypothesis |= {"candidate": None, "metric": "kv_cache_usage_max", "scale": "ratio", "units": "starts", "n": 2}
    hypothesis |= {"effect": 0.86, "effect_low": 0.83, "effect_high": 0.88, "direction": "greater", "margin": 1.1}
    hypothesis |= {"p": 0.001, "p_adjusted": 0.004, "verdict": "holds", "needed": None, "reason": None}
    memory = {
        "id": "C1",
        "title": "memory",
        "claim": "An RLLM fills more of the KV cache.",
        "paper": "3 to 70 %",
        "verdicts": [
            {"pair": "micro", "engine": "vllm", "verdict": "holds", "says": "It fills more."},
            {"pair": "micro", "engine": "sglang", "verdict": "undecided", "says": None},
        ],
        "hypotheses": [hypothesis],
        "experiments": [EXPERIMENT],
        "figures": [f"results/figures/{EXPERIMENT}-budget.png"],
        "tables": [f"results/tables/{EXPERIMENT}-main.csv"],
        "command": f"snakemake {EXPERIMENT}",
    }
    untested: dict[str, Any] = {
        "id": "C2",
        "title": "stragglers",
        "claim": "A few requests hold the batch.",
        "paper": None,
    }
    untested |= {"verdicts": [{"pair": "micro", "engine": "vllm", "verdict": "not tested", "says": None}]}
    untested |= {"hypotheses": [], "experiments": [], "figures": [], "tables": [], "command": None}
    return {"claims": [memory, untested], "primaries": 1, "level": 0.95, "invalid_points": None}


def _copied(frame: pd.DataFrame, copies: int) -> pd.DataFrame:
    """The rows of so many studies whose models have names of their own."""
    return pd.concat([frame.assign(model=frame["model"].str.replace("micro", name)) for name in names(copies)])


def names(copies: int) -> list[str]:
    return ["micro", *(f"micro{number}" for number in range(1, copies))]


def write(
    study: Study, folder: Path, copies: int = 1, figures: int = 2, starts: int = 1
) -> tuple[page.Files, page.StudyFacts]:
    """Write the files of a made-up study with one pair, and return them with what the page takes from the config.

    Args:
        study: with two engines.
        folder: where they are written.
        copies: how many pairs the study has, each with the same numbers.
        figures: how many are drawn; the page shows those that the catalogue has.
        starts: runs of each server.
    """
    frames = {"points": study.starts, "summary": study.summary}
    for name, frame in frames.items():
        _copied(frame, copies).to_parquet(folder / f"{name}.parquet")
    servers = _copied(study.summary, copies)[["engine", "model"]].drop_duplicates().to_dict("records")
    records = []
    for number, server in enumerate(servers * starts):
        records.append(folder / f"run-{number}.json")
        records[-1].write_text(json.dumps(run_record(engine=server["engine"], model=server["model"])))
    run_records.collect(records).to_csv(folder / "runs.csv", index=False)
    effective_options.collect(records).to_csv(folder / "effective-options.csv", index=False)
    made = {
        "main": tables.main(_copied(study.summary, copies)),
        "optimisations": tables.optimisations(_copied(study.changes, copies)),
    }
    made["noise"] = tables.noise(study.starts)
    for name, table in made.items():
        (folder / f"{EXPERIMENT}-{name}.csv").write_text(table_forms.csv(table))
    drawn = []
    for name in ("budget", "batch", "timeline", "stragglers", "difficulty", "domain", "engines", "optimisations")[
        :figures
    ]:
        drawn.append(folder / f"{EXPERIMENT}-{name}.png")
        figure = Figure(figsize=(12, 8), dpi=200)
        for axes in figure.subplots(4, 6).flat:
            axes.plot(study.summary["e2e_latency_mean"], study.summary["output_throughput"])
        figure.savefig(drawn[-1])
    (folder / "claims.json").write_text(json.dumps(claims()))
    false_positives = pd.DataFrame({"metric": ["accuracy", "all"], "comparisons": [12, 118], "rate": [0.0, 0.102]})
    false_positives.to_csv(folder / "false-positives.csv", index=False)
    captions = [ROOT / "workflow" / "report" / f"{name}.rst" for name in ("figure", "table")]
    files = page.Files(
        tables=[folder / f"{EXPERIMENT}-{name}.csv" for name in made],
        figures=drawn,
        points=[folder / "points.parquet"],
        summary=[folder / "summary.parquet"],
        runs=[folder / "runs.csv"],
        options=[folder / "effective-options.csv"],
        false_positives=[folder / "false-positives.csv"],
        claims=[folder / "claims.json"],
        captions=captions,
    )
    pairs = {name: {role: f"{name}_{role}" for role in ("llm", "rllm")} for name in names(copies)}
    identical = [f"{EXPERIMENT}/vllm/micro_{role}/bf16/spec" for role in ("llm", "rllm")]
    return files, page.StudyFacts([EXPERIMENT], pairs, identical, "seed: 7\nstudy: made-up\n")
