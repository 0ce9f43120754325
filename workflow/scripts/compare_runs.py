"""Set runs beside the ones that they are compared with: ratios, differences, and the reasons for them."""

import pandas as pd
from rllm_serving.analysis.comparison import compare
from rllm_serving.analysis.decomposition import decompose
from rllm_serving.analysis.run_data import RunData
from rllm_serving.logs import logged
from rllm_serving.serving.engines.base import describe_backends


def observed(number: int) -> RunData:
    """The run of that number among the inputs."""
    given = snakemake.input
    return RunData.read(given.requests[number], given.server[number], given.record[number], given.grades, texts=True)


with logged(snakemake.log[0]):
    comparisons, decompositions = [], []
    for baseline, others in snakemake.params.compared:
        base = observed(baseline)
        for number in others:
            candidate = observed(number)
            comparisons.append(compare(candidate, base))
            decompositions.append(decompose(candidate, base).assign(kernels=describe_backends(candidate.record)))
    pd.concat(comparisons, ignore_index=True).to_parquet(snakemake.output.comparison)
    pd.concat(decompositions, ignore_index=True).to_parquet(snakemake.output.decomposition)
