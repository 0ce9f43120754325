"""Metrics of a model's runs in one experiment: a row a point, a condition, a difficulty, a domain."""

import pandas as pd
from rllm_serving.analysis.points import Slo, breakdown, points, summary
from rllm_serving.analysis.run_data import RunData
from rllm_serving.logs import logged

with logged(snakemake.log[0]):
    slo = Slo(**snakemake.params.slo) if snakemake.params.slo else None
    made = []
    for files in zip(snakemake.input.requests, snakemake.input.server, snakemake.input.record, strict=True):
        run = RunData.read(*files, snakemake.input.grades)
        made.append([points(run, slo), summary(run, slo), breakdown(run, "difficulty"), breakdown(run, "domain")])
    names = ("points", "summary", "difficulty", "domain")
    for name, frames in zip(names, zip(*made, strict=True), strict=True):
        pd.concat(frames, ignore_index=True).to_parquet(snakemake.output[name])
