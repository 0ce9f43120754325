"""Grade the answers of one run."""

from collections import Counter

import pyarrow.parquet as pq
from rllm_serving.grading import grade
from rllm_serving.logs import logged

with logged(snakemake.log[0]) as log:
    golds = dict(zip(snakemake.params.datasets, map(pq.read_table, snakemake.input.datasets), strict=True))
    requests = pq.read_table(snakemake.input.requests)
    params = snakemake.params
    grades = grade(requests, golds, snakemake.threads, params.timeout_s, params.execute_code)
    pq.write_table(grades, snakemake.output[0])
    for how, count in Counter(grades["how"].to_pylist()).items():
        log.info("%d answers: %s", count, how)
