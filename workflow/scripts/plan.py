"""Print what the study will take, and whether this machine can do it."""

from pathlib import Path

from rllm_serving.logs import logged
from rllm_serving.study import machine_check, plan_text

with logged(snakemake.log[0]):
    asked = snakemake.params
    print(plan_text.text(asked.work, asked.downloads))
    # The hub is not asked: a plan needs no network.
    machine, findings = machine_check.look(asked.needs, Path("resources"), False, lambda *_: None)
    print("\n" + machine_check.text(asked.needs, machine, findings))
