"""Make a model of the hub or of a local folder ready for the engines."""

from pathlib import Path

from rllm_serving.logs import logged
from rllm_serving.models.checkpoints import prepare_checkpoint

with logged(snakemake.log[0]) as log:
    record = prepare_checkpoint(snakemake.wildcards.model, snakemake.params.spec, Path(snakemake.output[0]).parent)
    log.info("%s: %d bytes at %s", snakemake.wildcards.model, record["bytes"], record["path"])
