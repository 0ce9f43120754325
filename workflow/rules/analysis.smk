# From requests and samples to metrics with intervals: a job for all runs of a model in an experiment, then together.


rule metrics:
    input:
        unpack(group_inputs),
        grades=f"{GROUP}/grades.parquet",
    output:
        points=f"{GROUP}/points.parquet",
        summary=f"{GROUP}/summary.parquet",
        difficulty=f"{GROUP}/difficulty.parquet",
        domain=f"{GROUP}/domain.parquet",
    log:
        "logs/metrics/{experiment}/{model}.log",
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        mem_mb=8000,
        runtime=120,
    params:
        slo=lambda wildcards: config["experiments"][wildcards.experiment].get("slo"),
        library=library("metrics.py", *METRICS_MODULES),
    script:
        "../scripts/metrics.py"


# Two runs side by side: an engine against the first one, a setup or a quantization against the baseline.
rule compare:
    input:
        unpack(group_inputs),
        grades=f"{GROUP}/grades.parquet",
    output:
        versus=f"{GROUP}/versus-{{basis}}.parquet",
        why=f"{GROUP}/why-{{basis}}.parquet",
    log:
        "logs/compare/{experiment}/{model}-{basis}.log",
    wildcard_constraints:
        basis="engine|baseline",
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        mem_mb=8000,
        runtime=120,
    params:
        compared=lambda wildcards: STUDY.compared(wildcards.experiment, wildcards.model, wildcards.basis),
        library=library("compare.py", *METRICS_MODULES, *COMPARE_MODULES),
    script:
        "../scripts/compare.py"


rule collect:
    input:
        rows=lambda wildcards: [file for experiment in USUAL for file in files_of(experiment, wildcards.level)],
    output:
        parquet="results/{level}.parquet",
        csv="results/{level}.csv",
    log:
        "logs/collect/{level}.log",
    wildcard_constraints:
        level="points|summary|difficulty|domain",
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        library=library("collect.py"),
    script:
        "../scripts/collect.py"
