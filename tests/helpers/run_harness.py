"""A run whose engine is the mock server: the files that it reads, and what the engine received."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from helpers.fake_engine import METRICS_PAGE, FakeEngine
from helpers.mock_server import PROMPT, TESTS
from helpers.sse_fixtures import EOS, THINK_CLOSE
from rllm_serving.analysis.gates import GATES
from rllm_serving.measurement.paths import RunPaths
from rllm_serving.measurement.run import Measurement
from rllm_serving.models.token_probe import digest
from rllm_serving.serving.engines import ENGINES, Options
from rllm_serving.study.design import Load, Point, Run

QUESTIONS = 4
BUDGETS = (64, 128, 256)
FIRST_COMPLETION_TOKENS = 2
"""Of the completion that says that a server is ready."""
POINTS = tuple(Point("sums", Load("batch", 2), budget, 0, QUESTIONS) for budget in BUDGETS)
RUN = Run(
    experiment="e",
    engine="fake",
    model="m",
    quantization="bf16",
    setup="baseline",
    start=1,
    role="rllm",
    reasoning_parser="deepseek-r1",
    trust_remote_code=False,
    options=Options(),
    sampling={"temperature": 0.6, "top_p": 0.95},
    measurement={
        "request_timeout_s": 60,
        "startup_timeout_s": 60,
        "restart_cold": True,
        "sample_hz": 20,
        "warm_up_rounds": 1,
        "warm_up_agreement": 0.05,
        "max_failed_rate": 0,
        "on_invalid": "fail",
        # The mock server counts nothing, and machines that test may be busy.
        "gates": dict.fromkeys(GATES, math.inf),
    },
    seed=7,
    points=POINTS,
)


class RunHarness:
    """A folder with all files that a run reads; counts the requests that the engine received."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.record, self.faults = folder, folder / "record", folder / "faults"
        page = folder / "page"
        self.round = 2  # requests of a round of warming up
        ENGINES["fake"] = FakeEngine("--record", self.record, "--faults", self.faults, "--metrics", page)
        if page.exists():
            return
        page.write_bytes(METRICS_PAGE)
        (folder / "model").mkdir()
        tokens = [{"id": THINK_CLOSE, "content": "</think>"}, {"id": 1, "content": "<think>"}]
        (folder / "model" / "tokenizer.json").write_text(json.dumps({"added_tokens": tokens}))
        (folder / "model" / "generation_config.json").write_text(json.dumps({"eos_token_id": EOS}))
        self.write_model("d")
        (folder / "environment.json").write_text(json.dumps({"packages": {"fake": "1.0"}, "python": "3.11"}))
        (folder / "sums.jinja").write_text("{{ question }}")
        facts = {"choices": [], "gold": "1", "kind": "number", "domain": "arithmetic", "difficulty": "easy"}
        rows = [{"question_id": f"id-{i}", "question": f"q{i} ok", **facts} for i in range(QUESTIONS + 2)]
        pq.write_table(pa.Table.from_pylist(rows), folder / "sums.parquet")

    def write_model(self, content: str, prompt: Sequence[int] = PROMPT) -> None:
        """Write model.json: what its files are, and the tokens of the prompt that every server is asked for."""
        tokenizer = {"chat_sha256": digest(prompt), "chat_tokens": len(prompt)}
        record = {"path": str(self.folder / "model"), "digest": content, "tokenizer": tokenizer}
        (self.folder / "model.json").write_text(json.dumps(record))

    @property
    def paths(self) -> RunPaths:
        out = self.folder / "runs" / "baseline"
        out.mkdir(parents=True, exist_ok=True)
        return RunPaths(
            python=Path(sys.executable),
            environment=self.folder / "environment.json",
            model=self.folder / "model.json",
            draft=None,
            arrivals=None,
            datasets={"sums": self.folder / "sums.parquet"},
            templates={"sums": self.folder / "sums.jinja"},
            requests=out / "requests.parquet",
            server=out / "server.parquet",
            record=out / "run.json",
            server_log=self.folder / "server.log",
            forced=self.folder / "forced",
        )

    def execute(self, run: Run = RUN, device: str = "cpu") -> None:
        self.round = max(point.load.size or 0 for point in run.points)
        Measurement(run, self.paths, device).execute()

    def start(self) -> subprocess.Popen[bytes]:
        """Execute the run in a process of its own, which can be killed."""
        imports = f"from pathlib import Path; from {__name__} import RunHarness"
        program = f"{imports}; RunHarness(Path({str(self.folder)!r})).execute()"
        search = os.pathsep.join((str(Path(TESTS).parent / "workflow"), TESTS))
        return subprocess.Popen([sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": search})

    def sent(self) -> list[dict[str, Any]]:
        """Bodies of the measured requests since the last call; warm-ups and the first completion are left out."""
        bodies = [json.loads(line) for line in self.record.read_text().splitlines()] if self.record.exists() else []
        self.record.unlink(missing_ok=True)
        measured: list[dict[str, Any]] = []
        warming_up = 0
        for body in bodies:
            # A server's first completion, then one round of the largest batch.
            if body["max_tokens"] == FIRST_COMPLETION_TOKENS:
                warming_up = self.round
            elif warming_up:
                warming_up -= 1
            else:
                measured.append(body)
        return measured

    def measured(self) -> dict[int, int]:
        """Requests a budget since the last call."""
        return dict(Counter(body["max_tokens"] for body in self.sent()))

    def fail(self, **replies: str) -> None:
        """From now on the reply to question Q under budget B is replies["Q B"], with an underscore for the space."""
        self.faults.write_text(json.dumps({name.replace("_", " "): reply for name, reply in replies.items()}))

    def outputs(self) -> list[bool]:
        return [path.exists() for path in (self.paths.requests, self.paths.server, self.paths.record)]

    def journaled(self) -> list[str]:
        """Points in the journal."""
        return sorted(path.stem for path in self.paths.partial.glob("sums*.json"))
