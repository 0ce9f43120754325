# From requests and samples to metrics with intervals: a job for all runs of a model in an experiment, then together.


rule compute_metrics:
    """Compute metrics with intervals for all runs of one model in one experiment."""
    input:
        unpack(group_inputs),
        grades=f"{GROUP}/grades.parquet",
    output:
        points=f"{GROUP}/points.parquet",
        summary=f"{GROUP}/summary.parquet",
        difficulty=f"{GROUP}/difficulty.parquet",
        domain=f"{GROUP}/domain.parquet",
    log:
        "logs/compute_metrics/{experiment}/{model}.log",
    benchmark:
        "logs/benchmarks/compute_metrics/{experiment}/{model}.tsv"
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        mem_mb=8000,
        runtime=120,
    params:
        code=code("compute_metrics.py"),
        slo=lambda wildcards: config["experiments"][wildcards.experiment].get("slo"),
    script:
        "../scripts/compute_metrics.py"


rule compare_runs:
    """Compare the runs of one model in one experiment with another engine's, or with the baseline setup."""
    input:
        unpack(group_inputs),
        grades=f"{GROUP}/grades.parquet",
    output:
        comparison=f"{GROUP}/comparison-{{basis}}.parquet",
        decomposition=f"{GROUP}/decomposition-{{basis}}.parquet",
    log:
        "logs/compare_runs/{experiment}/{model}-{basis}.log",
    benchmark:
        "logs/benchmarks/compare_runs/{experiment}/{model}-{basis}.tsv"
    wildcard_constraints:
        basis="engine|baseline",
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        mem_mb=8000,
        runtime=120,
    params:
        code=code("compare_runs.py"),
        compared=lambda wildcards: STUDY.comparisons(wildcards.experiment, wildcards.model, wildcards.basis),
    script:
        "../scripts/compare_runs.py"


rule collect_results:
    """Collect one table of every model and experiment in one file, as Parquet and CSV."""
    input:
        rows=lambda wildcards: [
            file for experiment in DEFAULT_EXPERIMENTS for file in files_of(experiment, wildcards.level)
        ],
    output:
        parquet="results/{level}.parquet",
        csv="results/{level}.csv",
    log:
        "logs/collect_results/{level}.log",
    wildcard_constraints:
        level="points|summary|difficulty|domain",
    localrule: True
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        code=code("collect_results.py"),
    script:
        "../scripts/collect_results.py"
