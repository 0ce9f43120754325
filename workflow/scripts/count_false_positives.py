"""Count how often servers that are the same as their baseline were called different from it."""

import pandas as pd
from rllm_serving.analysis.false_positives import false_positives
from rllm_serving.analysis.request_metrics import SERVER
from rllm_serving.errors import UserError
from rllm_serving.logs import logged

with logged(snakemake.log[0]):
    if not snakemake.input:
        raise UserError(
            "no setup is the same as its baseline; add one without options, such as `again: {}`, to `setups`"
        )
    compared = pd.concat(map(pd.read_parquet, snakemake.input), ignore_index=True)
    same = compared[SERVER].agg("/".join, axis=1).isin(snakemake.params.servers)
    false_positives(compared[same]).round(3).to_csv(snakemake.output[0], index=False)
