"""Write the study's report: one HTML file that needs no network."""

from pathlib import Path

from rllm_serving.logs import logged
from rllm_serving.report import page

with logged(snakemake.log[0]):
    files = page.Files(**{name: [Path(file) for file in files] for name, files in snakemake.input.items()})
    asked = snakemake.params
    study = page.StudyFacts(asked.experiments, asked.pairs, asked.identical, asked.config)
    Path(snakemake.output[0]).write_text(page.render(files, study), encoding="utf-8")
