"""Set a run beside the one that it is compared with: ratios and differences with paired intervals."""

import pandas as pd
from rllm_serving.analysis import requests
from rllm_serving.analysis.compare import Side, compare
from rllm_serving.logs import logged


def side(requests_path: str, grades: str, server: str) -> Side:
    """What one of the two runs measured."""
    return Side(requests.read(requests_path, texts=True), pd.read_parquet(grades), pd.read_parquet(server))


with logged(snakemake.log[0]):
    mine, reference = side(*snakemake.input.mine), side(*snakemake.input.reference)
    compare(mine, reference).to_parquet(snakemake.output[0])
