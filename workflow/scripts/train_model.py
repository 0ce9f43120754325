"""Train one micro model in the training environment and describe its checkpoint."""

from pathlib import Path

from rllm_serving.logs import logged
from rllm_serving.models.micro_job import train

with logged(snakemake.log[0]):
    train(
        snakemake.wildcards.model,
        snakemake.params.spec,
        snakemake.params.seed,
        python=Path(snakemake.input.environment).parent / "bin" / "python",
        prompts=Path(snakemake.input.prompts[0]).parent,
        target=Path(snakemake.output.record).parent,
    )
