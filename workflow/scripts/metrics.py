"""Metrics of one run with their intervals: a row a point, a condition, a difficulty, a domain."""

import json
from pathlib import Path

import pandas as pd
from rllm_serving.analysis import points, requests
from rllm_serving.logs import logged

with logged(snakemake.log[0]):
    table = requests.read(snakemake.input.requests)
    grades = pd.read_parquet(snakemake.input.grades)
    server = pd.read_parquet(snakemake.input.server)
    record = json.loads(Path(snakemake.input.record).read_text())
    slo = points.Slo(**snakemake.params.slo) if snakemake.params.slo else None
    points.points(table, grades, server, record, slo).to_parquet(snakemake.output.points)
    points.summary(table, grades, server, record, slo).to_parquet(snakemake.output.summary)
    points.breakdown(table, grades, "difficulty", record).to_parquet(snakemake.output.difficulty)
    points.breakdown(table, grades, "domain", record).to_parquet(snakemake.output.domain)
