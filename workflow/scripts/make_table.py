"""Write one table of one experiment as CSV, Markdown and LaTeX."""

import pandas as pd
from rllm_serving.logs import logged
from rllm_serving.report import table_forms, tables
from rllm_serving.report.control import with_control

with logged(snakemake.log[0]):
    frame = pd.concat(map(pd.read_parquet, snakemake.input.rows), ignore_index=True)
    if snakemake.params.unsupported:
        frame = pd.concat([frame, pd.DataFrame(snakemake.params.unsupported)], ignore_index=True)
    table = with_control(tables.TABLES[snakemake.wildcards.table](frame))
    table_forms.write(table, snakemake.output.csv, snakemake.output.md, snakemake.output.tex)
