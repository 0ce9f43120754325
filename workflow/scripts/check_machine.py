"""Check whether this machine can do the study; its output says what was found."""

import json
from pathlib import Path

from huggingface_hub.constants import HF_HUB_CACHE
from rllm_serving.logs import logged
from rllm_serving.models import hub_access
from rllm_serving.serving.gpus import check_granted
from rllm_serving.serving.machine import this_machine
from rllm_serving.study.machine_check import check

with logged(snakemake.log[0]) as log:
    asked = snakemake.params
    if asked.serves_here:
        check_granted("the largest server", asked.needs["gpus"], snakemake.resources.get("gpu", 0))
    machine = this_machine()
    resources = Path(snakemake.output[0]).parent
    findings = check(asked.needs, machine, resources, Path(HF_HUB_CACHE), hub_access.refusal, asked.serves_here)
    for note in findings.notes:
        log.info("%s", note)
    findings.raise_problems()
    found = {"machine": machine.describe(), "notes": findings.notes}
    Path(snakemake.output[0]).write_text(json.dumps(found, indent=1) + "\n")
