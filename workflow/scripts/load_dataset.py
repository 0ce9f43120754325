"""Write one question set in the common form."""

import pyarrow.parquet as pq
from rllm_serving.datasets.loaders import load
from rllm_serving.logs import logged

with logged(snakemake.log[0]) as log:
    table = load(snakemake.wildcards.dataset, snakemake.params.spec, snakemake.params.seed)
    pq.write_table(table, snakemake.output[0])
    log.info("%s: %d questions", snakemake.wildcards.dataset, table.num_rows)
