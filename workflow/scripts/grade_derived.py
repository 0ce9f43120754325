"""Cut the answers of a model in one experiment to smaller token budgets, and grade what is left of them."""

import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rllm_serving.grading.cutting import Vocabulary, cut_table
from rllm_serving.grading.grader import GRADED, Grader
from rllm_serving.logs import logged

REQUESTS = 200  # in memory at a time, with a number for each token

with logged(snakemake.log[0]) as log:
    params, given = snakemake.params, snakemake.input
    golds = dict(zip(params.datasets, map(pq.read_table, given.datasets), strict=True))
    columns = [name for name in pq.read_schema(given.requests[0]).names if name != "chunk_times"]
    cuts: Counter[str] = Counter()
    writer = None
    with Grader(golds, snakemake.threads, params.timeout_s, params.execute_code) as grader:
        for path, record in zip(given.requests, given.records, strict=True):
            vocabulary = Vocabulary(Path(json.loads(Path(record).read_text())["model"]["path"]))
            for batch in pq.ParquetFile(path).iter_batches(REQUESTS, columns=columns):
                measured = pa.Table.from_batches([batch])
                for budget, source, _ in params.derivations:
                    rows = cut_table(measured.filter(pc.equal(measured["budget"], source)), budget, source, vocabulary)
                    grades = grader.grade(rows)
                    for name in GRADED:
                        rows = rows.append_column(name, grades[name])
                    writer = writer or pq.ParquetWriter(snakemake.output[0], rows.schema)
                    writer.write_table(rows)
                    cuts.update(rows["cut"].to_pylist())
    if writer is not None:
        writer.close()
    for how, count in cuts.items():
        log.info("%d answers cut: %s", count, how)
