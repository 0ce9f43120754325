"""Set servers beside the ones that they are compared with: changes, verdicts, and the reasons for them."""

import pandas as pd
from rllm_serving.analysis.comparison import Rules, compare
from rllm_serving.analysis.decomposition import decompose, with_intervals
from rllm_serving.analysis.interaction import interactions
from rllm_serving.analysis.points import noise_table
from rllm_serving.analysis.server_data import ServerFiles
from rllm_serving.analysis.verdicts import with_verdicts
from rllm_serving.logs import logged
from rllm_serving.serving.engines.base import describe_backends

with logged(snakemake.log[0]):
    asked, given = snakemake.params, snakemake.input
    files = ServerFiles(asked.servers, given.requests, given.server, given.record, given.grades, given.derived)
    starts = pd.read_parquet(given.starts)
    rules = Rules(noise_table(starts), starts, asked.margins)
    comparisons, decompositions = [], []
    for baseline, others in asked.compared:
        base = files.read(baseline, texts=True)
        for name in others:
            candidate = files.read(name, texts=True)
            comparisons.append(compare(candidate, base, rules))
            kernels = describe_backends(candidate.records[-1])
            decompositions.append(decompose(candidate, base).assign(kernels=kernels))
    compared = pd.concat(comparisons, ignore_index=True)
    of_roles = interactions(compared, asked.pairs, rules)
    with_verdicts(compared).to_parquet(snakemake.output.comparison)
    with_verdicts(of_roles).to_parquet(snakemake.output.interaction)
    with_intervals(pd.concat(decompositions, ignore_index=True)).to_parquet(snakemake.output.decomposition)
