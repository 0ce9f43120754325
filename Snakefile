# The study's table of contents. What is measured stands in config/config.yaml; each stage in workflow/rules/.
from snakemake.utils import min_version

min_version("9.27")


# Another study is another file: --configfile takes its place instead of being laid over it.
if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/environments.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/quantization.smk"
include: "workflow/rules/datasets.smk"
include: "workflow/rules/serving.smk"
include: "workflow/rules/grading.smk"
include: "workflow/rules/analysis.smk"
include: "workflow/rules/report.smk"


# Everything but the optional experiments: every run measured and graded, points, tables and figures.
rule all:
    default_target: True
    input:
        "results/points.parquet",
        "results/points.csv",
        "results/summary.parquet",
        [tables_of(experiment) for experiment in USUAL],
        [figures_of(experiment) for experiment in USUAL],


# Everything that a run needs, without starting a server: for machines that lose their network afterwards.
rule prepare:
    input:
        [f"resources/environments/{name}/environment.json" for name in STUDY.environments(STUDY.experiments)],
        [f"resources/models/{model}/model.json" for model in MODELS],
        [f"resources/models/{model}/{quantization}/model.json" for model, quantization in QUANTIZED],
        [f"resources/datasets/{dataset}.parquet" for dataset in STUDY.datasets],


# What the study will take, in two tables: servers, GPUs and hours; bytes to download and to keep. Starts nothing.
rule plan:
    log:
        "logs/plan.log",
    localrule: True
    conda:
        "workflow/envs/workflow.yaml"
    params:
        work=lambda wildcards: PLAN.work(),
        downloads=lambda wildcards: PLAN.downloads(),
    script:
        "workflow/scripts/plan.py"


# Every run of these measured, nothing analysed.
rule measured:
    input:
        [f"results/runs/{folder}/run.json" for folder, run in STUDY.runs.items() if run.experiment in USUAL],


# One experiment alone, by its name: its runs, tables and figures.
for experiment in config["experiments"]:

    rule:
        name:
            target_name(experiment)
        input:
            tables_of(experiment),
            figures_of(experiment),
