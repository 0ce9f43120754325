"""Print what the study will take, and whether this machine can do it."""

from pathlib import Path

from huggingface_hub.constants import HF_HUB_CACHE
from rllm_serving.logs import logged
from rllm_serving.serving.machine import this_machine
from rllm_serving.study import machine_check, plan_text

with logged(snakemake.log[0]):
    asked, machine = snakemake.params, this_machine()
    print(plan_text.text(asked.work, asked.downloads))
    # The hub is not asked: a plan needs no network.
    places = Path("resources"), Path(HF_HUB_CACHE)
    findings = machine_check.check(asked.needs, machine, *places, lambda *_: None, serves_here=False)
    print("\n" + machine_check.text(asked.needs, machine, findings))
