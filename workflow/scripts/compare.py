"""Set a run beside the one that it is compared with: ratios, differences, and the reasons for them."""

import json
from pathlib import Path

import pandas as pd
from rllm_serving import kernels
from rllm_serving.analysis import requests
from rllm_serving.analysis.compare import Side, compare
from rllm_serving.analysis.why import why
from rllm_serving.logs import logged


def side(requests_path: str, grades: str, server: str) -> Side:
    """What one of the two runs measured."""
    return Side(requests.read(requests_path, texts=True), pd.read_parquet(grades), pd.read_parquet(server))


with logged(snakemake.log[0]):
    *mine, my_record = snakemake.input.mine
    *reference, other_record = snakemake.input.reference
    sides = side(*mine), side(*reference)
    records = [json.loads(Path(path).read_text()) for path in (my_record, other_record)]
    compare(*sides, records).to_parquet(snakemake.output.versus)
    why(*sides, records).assign(kernels=kernels.told(records[0])).to_parquet(snakemake.output.why)
