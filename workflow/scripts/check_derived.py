"""Set measured budgets beside what would have been derived for them."""

from rllm_serving.analysis.derived_check import check_derived
from rllm_serving.analysis.server_data import ServerFiles
from rllm_serving.logs import logged

with logged(snakemake.log[0]):
    asked, given = snakemake.params, snakemake.input
    files = ServerFiles(asked.servers, given.requests, given.server, given.record, given.grades, given.derived)
    check_derived((server, given.derived) for server in files.all(texts=True)).to_parquet(snakemake.output[0])
