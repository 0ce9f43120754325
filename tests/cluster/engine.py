"""The scripted server behind a real engine's command line: what the cluster tests serve with.

`bin/python` of a stand-in environment runs this file with the arguments that Python would get. In the working
directory, engines.jsonl gets a line a start, and faults.json may hold faults of the scripted server.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers import mock_server

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
