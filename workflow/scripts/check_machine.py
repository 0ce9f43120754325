"""Check whether this machine can do the study; its output says what was found."""

import json
from pathlib import Path

from rllm_serving.logs import logged
from rllm_serving.serving.gpus import check_granted
from rllm_serving.study.estimate import Plan
from rllm_serving.study.machine_check import look
from rllm_serving.study.requirements import requirements
from rllm_serving.study.study import Study

with logged(snakemake.log[0]) as log:
    asked, granted = snakemake.params, snakemake.resources.get("gpu", 0)
    needs = requirements(Plan(Study(snakemake.config, Path(asked.prompts), asked.device)), Path(asked.locks))
    serves_here = granted > 0
    if serves_here:
        check_granted("the largest server", needs["gpus"], granted)
    machine, findings = look(needs, Path(snakemake.output[0]).parent, serves_here)
    for note in findings.notes:
        log.info("%s", note)
    findings.raise_problems()
    found = {"machine": machine.describe(), "notes": findings.notes}
    Path(snakemake.output[0]).write_text(json.dumps(found, indent=1) + "\n")
