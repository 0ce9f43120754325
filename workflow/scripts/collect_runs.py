"""Collect what every run recorded about itself, and the options that its servers ran with."""

from rllm_serving.logs import logged
from rllm_serving.report import effective_options, run_records

with logged(snakemake.log[0]):
    run_records.collect(snakemake.input.records).to_csv(snakemake.output.runs, index=False)
    effective_options.collect(snakemake.input.records).to_csv(snakemake.output.options, index=False)
