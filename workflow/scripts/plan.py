"""Print what the study will take."""

from rllm_serving.logs import logged
from rllm_serving.study import estimate

with logged(snakemake.log[0]):
    print(estimate.text(snakemake.params.work, snakemake.params.downloads))
