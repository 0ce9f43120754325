"""Print how often servers that are the same as their baseline were called different from it."""

import pandas as pd
from rllm_serving.logs import logged

with logged(snakemake.log[0]):
    print(pd.read_csv(snakemake.input[0]).to_markdown(index=False, floatfmt=".3f"))
