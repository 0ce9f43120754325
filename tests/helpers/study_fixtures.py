"""A made-up study as tables and figures take it: its runs, points, breakdowns and comparisons."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from helpers import run_fixtures
from helpers.analysed import MARGINS, comparisons
from rllm_serving.analysis.comparison import Rules
from rllm_serving.analysis.decomposition import PARTS, decompose, with_intervals
from rllm_serving.analysis.points import experiment_tables, noise_table
from rllm_serving.analysis.request_metrics import latencies
from rllm_serving.analysis.server_data import ServerData

TWO_PAIRS = run_fixtures.PAIRS | {"big": {"llm": "big_llm", "rllm": "big_rllm"}}
CASES: dict[str, dict[str, Any]] = {
    "one-engine": {"engines": ("vllm",), "pairs": run_fixtures.PAIRS},
    "two-engines": {"engines": ("vllm", "sglang"), "pairs": run_fixtures.PAIRS},
    "two-pairs": {"engines": ("vllm", "sglang"), "pairs": TWO_PAIRS},
    "some-failed": {"engines": ("vllm",), "pairs": run_fixtures.PAIRS, "fail": 0.4},
    "all-failed": {"engines": ("vllm",), "pairs": run_fixtures.PAIRS, "fail": 1.1},
}


def _as_setup(run: tuple, setup: str, quantization: str = "bf16") -> tuple:
    """The same run under the name of another setup and weight format."""
    names = {"setup": setup, "quantization": quantization}
    frame = run[0].to_pandas().assign(**names)
    frame["last_token"] += 0.01
    return pa.Table.from_pandas(frame, preserve_index=False), *(part.assign(**names) for part in run[1:])


def _server(run: tuple) -> ServerData:
    requests, grades, samples, record = run
    return ServerData(requests, grades, samples, [record])


class Study:
    def __init__(self, **options: Any) -> None:
        small: dict[str, Any] = {"loads": (4, 8), "budgets": (32, 512), "questions": 8}
        self.pairs, runs = options["pairs"], run_fixtures.study(**(small | options))
        tables = experiment_tables([_server(run) for run in runs])
        self.points, self.starts, self.summary = tables.points, tables.starts, tables.summary
        self.requests = pd.concat([latencies(run[0]) for run in runs])
        self.server = pd.concat([run[2] for run in runs])
        self.by = {"difficulty": tables.difficulty, "domain": tables.domain}
        self.runs = runs

    @cached_property
    def rules(self) -> Rules:
        """What its servers are compared by."""
        return Rules(noise_table(self.starts), self.starts, MARGINS)

    @cached_property
    def versus(self) -> pd.DataFrame | None:
        """SGLang against vLLM."""
        sides = {run[3]["server"]["engine"] + run[3]["server"]["model"]: _server(run) for run in self.runs}
        models = [model for pair in self.pairs.values() for model in pair.values()]
        pairs = [(sides["sglang" + name], sides["vllm" + name]) for name in models if "sglang" + name in sides]
        return comparisons(pairs, self.rules) if pairs else None

    @cached_property
    def changes(self) -> pd.DataFrame:
        """A setup and a weight format against the baseline."""
        fast = [run for run in self.runs if run[3]["server"]["engine"] == "vllm"]
        pairs = []
        for run in fast:
            base = _server(run)
            setups = (_as_setup(run[:3], "spec"), _as_setup(run[:3], "baseline", "int8"))
            pairs += [(ServerData(*setup), base) for setup in setups]
        # They are as fast as the baseline, but for a hundredth of a second.
        alike = [self.starts.assign(setup="spec"), self.starts.assign(quantization="int8")]
        starts = pd.concat([self.starts, *alike], ignore_index=True)
        return comparisons(pairs, Rules(noise_table(starts), starts, MARGINS))

    @cached_property
    def setups(self) -> pd.DataFrame:
        """The summary, with a faster setup that is as right and a still faster weight format that is less right."""
        speed = [name for name in self.summary.columns if name.startswith("request_throughput")]
        fast = self.summary.assign(setup="spec", **self.summary[speed] * 1.2)
        small = self.summary.assign(quantization="int8", invalid="late", **self.summary[speed] * 1.5)
        small["accuracy"] = small["accuracy"] * 0.9
        return pd.concat([self.summary, fast, small], ignore_index=True)

    @cached_property
    def parts(self) -> pd.DataFrame:
        """What the changes of weight formats and setups are made of; what one part gains another loses."""
        servers = [("int8", "baseline"), ("fp8", "baseline"), ("bf16", "kv-fp8"), ("fp8", "kv-fp8")]
        rng, frames = np.random.default_rng(1), []
        for run in self.runs:
            rows = with_intervals(decompose(ServerData(*_as_setup(run[:3], "kv-fp8")), ServerData(*run[:3])))
            for quantization, setup in servers:
                gain = rows["e2e_latency_baseline"] * rng.uniform(-0.4, 0.4)
                changed = {"queue_and_prefill": rows["queue_and_prefill"] + gain, "thinking": rows["thinking"] - gain}
                frames.append(rows.assign(quantization=quantization, setup=setup, **changed))
        missing = [name for name in frames[0].columns if name.startswith(("delta_e2e_latency", *PARTS))]
        frames[0].loc[frames[0]["dataset"] == "arith-easy", missing] = np.nan
        return pd.concat(frames, ignore_index=True)

    @cached_property
    def stream(self) -> pd.DataFrame:
        """The summary as if its batches had been streams, one of them beyond a gate."""
        names = {1: "open-0.7x-gamma1", 4: "open-0.7x-gamma0.25", 16: "trace-2rps-real"}
        frame = self.summary.assign(load=[names.get(size, "open-0.7x-gamma0.1") for size in self.summary["load_level"]])
        late = frame["load"] == "open-0.7x-gamma0.25"
        frame = frame.assign(slo_attainment=0.5, invalid=None)
        frame.loc[late, "invalid"] = "schedule_lag_p99_s 90 ms, allowed 20 ms"
        return frame
