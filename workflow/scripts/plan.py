"""Print what the study will take."""

from rllm_serving import plan
from rllm_serving.logs import logged

with logged(snakemake.log[0]):
    print(plan.text(snakemake.params.experiments, snakemake.params.downloads))
