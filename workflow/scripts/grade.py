"""Grade the answers of one run."""

import pyarrow.parquet as pq
from rllm_serving.grading import grade
from rllm_serving.logs import logged

with logged(snakemake.log[0]) as log:
    golds = dict(zip(snakemake.params.datasets, map(pq.read_table, snakemake.input.datasets), strict=True))
    requests = pq.read_table(snakemake.input.requests)
    grades = grade(requests, golds, snakemake.threads, snakemake.params.timeout_s)
    pq.write_table(grades, snakemake.output[0])
    log.info("%d answers graded", grades.num_rows)
