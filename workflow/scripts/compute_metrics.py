"""Metrics of all servers of one experiment: a row a point, a start, a condition, a difficulty, a domain."""

from rllm_serving.analysis.points import experiment_tables
from rllm_serving.analysis.server_data import ServerFiles
from rllm_serving.analysis.timing import Slo
from rllm_serving.logs import logged

with logged(snakemake.log[0]):
    asked, given = snakemake.params, snakemake.input
    files = ServerFiles(asked.servers, given.requests, given.server, given.record, given.grades, given.derived)
    slo = Slo(**asked.slo) if asked.slo else None
    tables = experiment_tables(files.all(), slo, asked.ttfvt_horizon_s, asked.price_per_hour)
    for name, table in tables._asdict().items():
        table.to_parquet(snakemake.output[name])
