"""Draw one figure of one experiment as PDF and PNG."""

import pandas as pd
from rllm_serving.analysis import request_metrics
from rllm_serving.logs import logged
from rllm_serving.report import figures


def frame(source: str, path: str) -> pd.DataFrame:
    """A run's file as a figure takes it."""
    return request_metrics.latencies(request_metrics.read(path)) if source == "requests" else pd.read_parquet(path)


with logged(snakemake.log[0]):
    frames = [
        pd.concat([frame(source, path) for path in paths], ignore_index=True)
        for source, paths in snakemake.input.items()
    ]
    if snakemake.params.unsupported:
        frames[0] = pd.concat([frames[0], pd.DataFrame(snakemake.params.unsupported)], ignore_index=True)
    figures.draw(snakemake.params.function, frames, snakemake.params.pairs, snakemake.output.pdf, snakemake.output.png)
