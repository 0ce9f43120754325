"""Collect what every run recorded about itself in one file."""

from rllm_serving.logs import logged
from rllm_serving.report import run_records

with logged(snakemake.log[0]):
    run_records.collect(snakemake.input.records).to_csv(snakemake.output[0], index=False)
