"""Quantize one model by one method, check the result and describe it."""

from pathlib import Path

import pyarrow.parquet as pq
from rllm_serving import environments
from rllm_serving.logs import logged
from rllm_serving.quantization.job import QuantizationJob, quantize
from rllm_serving.serving.gpus import check_granted

questions = snakemake.input.questions
templates = [Path(template) for template in snakemake.input.templates]
job = QuantizationJob(
    model=snakemake.wildcards.model,
    quantization=snakemake.wildcards.quantization,
    spec=snakemake.params.spec,
    model_spec=snakemake.params.model_spec,
    rows=pq.read_table(questions[0]).to_pylist() if questions else None,
    templates={"": templates[0]} if questions else {"number": templates[0], "choice": templates[1]},
    seed=snakemake.params.seed,
    sampling=snakemake.params.sampling,
    device=snakemake.params.device,
    gpus=snakemake.resources.get("gpu", 0),
)
with logged(snakemake.log[0]) as log:
    # Fewer than asked for may do: the job looks at their memory.
    check_granted(f"{job.key} (model '{job.model}')", int(job.device == "cuda"), job.gpus)
    record = quantize(
        job,
        base=Path(snakemake.input.model),
        python=environments.python(Path(snakemake.input.environment).parent),
        target=Path(snakemake.output[0]).parent,
    )
    log.info("%s", record["quantization"])
