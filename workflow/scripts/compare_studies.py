"""Set this study beside an older one: which metrics and verdicts changed, and what differs besides."""

from pathlib import Path

from rllm_serving.analysis.results_folder import StudyResults
from rllm_serving.analysis.studies import changed_claims, changed_verdicts, compare
from rllm_serving.analysis.study_versions import differences
from rllm_serving.errors import UserError
from rllm_serving.logs import logged
from rllm_serving.report import figures, studies

with logged(snakemake.log[0]) as log:
    asked, made = snakemake.params, snakemake.output
    if asked.then is None:
        raise UserError("no older study to compare with; name its results folder: --config compare_with=FOLDER")
    then, now = StudyResults.read(Path(asked.then)), StudyResults.read(Path("results"))
    comparison, unmatched = compare(then, now, asked.margins)
    studies.write(comparison, made.table, made.md, made.tex)
    unmatched.to_csv(made.unmatched, index=False)
    differences(then.records, now.records).to_csv(made.versions, index=False)
    changed_verdicts(then, now).to_csv(made.verdicts, index=False)
    changed_claims(then, now).to_csv(made.claims, index=False)
    figures.draw("studies:studies", [comparison], asked.pairs, made.pdf, made.png)
    log.info("%d comparisons; %d conditions are not compared", len(comparison), len(unmatched))
    for verdict, count in comparison["verdict"].value_counts().items():
        log.info("%s: %d", verdict, count)
