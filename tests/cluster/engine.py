"""The scripted server behind a real engine's command line: what the cluster tests serve with.

`bin/python` of a stand-in environment runs this file with the arguments that Python would get. In the working
directory, engines.jsonl gets a line a start, and faults.json may hold faults of the scripted server. Asked to examine a
tokenizer it reports the prompt that the scripted server makes of every question.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2] / "workflow"))

from helpers import mock_server
from rllm_serving.models.token_probe import digest

WORKER = "rllm_serving.models.tokenizer_worker"


def report_tokenizer(job: Path) -> None:
    """Write the report that `tokenizer_worker` would of a checkpoint without a fault."""
    prompt = mock_server.PROMPT
    chat = {"chat_tokens": len(prompt), "chat_sha256": digest(prompt)}
    found = {"class": "Stand", "reference": "tokenizer.json", "differences": [], "special": {}, "clock": False, **chat}
    report = {**found, "ids_sha256": digest([]), "patch": {"pinned_clock": False}, "files": [], "before": None}
    Path(json.loads(job.read_text())["report"]).write_text(json.dumps(report))


if WORKER in sys.argv:
    report_tokenizer(Path(sys.argv[-1]))
    sys.exit()
parser = argparse.ArgumentParser(allow_abbrev=False)
parser.add_argument("--port")
parser.add_argument("--tensor-parallel-size", type=int)
options, _ = parser.parse_known_args()
start = {
    "pid": os.getpid(),
    "tensor_parallel": options.tensor_parallel_size,
    "job": os.environ.get("SLURM_JOB_ID"),
    "gpus": os.environ.get("SLURM_GPUS_ON_NODE"),
    "visible": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
}
with Path("engines.jsonl").open("a") as starts:
    starts.write(json.dumps(start) + "\n")
note = f"grandchild-{os.getpid()}"
sys.argv[1:] = ["--port", options.port, "--faults", "faults.json", "--grandchild", note]
mock_server.main()
