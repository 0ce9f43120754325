"""Draw one figure of one experiment as PDF and PNG."""

from importlib import import_module

import pandas as pd
from rllm_serving.analysis import request_metrics
from rllm_serving.logs import logged


def frame(source: str, path: str) -> pd.DataFrame:
    """A run's file as a figure takes it."""
    return request_metrics.latencies(request_metrics.read(path)) if source == "requests" else pd.read_parquet(path)


with logged(snakemake.log[0]):
    figure = import_module(f"rllm_serving.report.figures.{snakemake.params.module}")
    frames = [
        pd.concat([frame(source, path) for path in paths], ignore_index=True)
        for source, paths in snakemake.input.items()
    ]
    figure.draw(*frames, snakemake.params.pairs, snakemake.output.pdf, snakemake.output.png)
