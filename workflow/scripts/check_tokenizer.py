"""Compare the tokenizer that a program loads with the model's own file, and mend what differs."""

from pathlib import Path

from rllm_serving import environments
from rllm_serving.logs import logged
from rllm_serving.models.tokenizer_check import describe_mending, prepare_for

wildcards, given = snakemake.wildcards, snakemake.input
with logged(snakemake.log[0]) as log:
    record = prepare_for(
        wildcards.environment.rpartition("-")[0],
        model=Path(given.model),
        python=environments.python(Path(given.environment).parent),
        target=Path(snakemake.output[0]).parent,
        spec=snakemake.params.spec,
        key=snakemake.params.key,
    )
    log.info("%s: %s", wildcards.checkpoint, describe_mending(record))
