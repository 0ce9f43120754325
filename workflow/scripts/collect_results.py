"""Put the same table of all runs together."""

import pandas as pd
from rllm_serving.logs import logged

with logged(snakemake.log[0]):
    frame = pd.concat(map(pd.read_parquet, snakemake.input.rows), ignore_index=True)
    frame.to_parquet(snakemake.output.parquet)
    frame.to_csv(snakemake.output.csv, index=False)
