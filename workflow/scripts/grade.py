"""Grade the answers of a model's runs in one experiment."""

from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
from rllm_serving.grading.grader import GRADE_SCHEMA, READ, Grader
from rllm_serving.logs import logged

REQUESTS = 10_000  # in memory at a time

with logged(snakemake.log[0]) as log:
    params = snakemake.params
    golds = dict(zip(params.datasets, map(pq.read_table, snakemake.input.datasets), strict=True))
    counts: Counter[str] = Counter()
    with (
        Grader(golds, snakemake.threads, params.timeout_s, params.execute_code) as grader,
        pq.ParquetWriter(snakemake.output[0], GRADE_SCHEMA) as writer,
    ):
        for path in snakemake.input.requests:
            for batch in pq.ParquetFile(path).iter_batches(REQUESTS, columns=READ):
                grades = grader.grade(pa.Table.from_batches([batch]))
                writer.write_table(grades)
                counts.update(grades["grader"].to_pylist())
    for how, count in counts.items():
        log.info("%d answers: %s", count, how)
