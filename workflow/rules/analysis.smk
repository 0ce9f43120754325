# From requests and samples to metrics with intervals: a job for all servers of an experiment, then together.


rule compute_metrics:
    """Compute metrics with intervals for all servers of one experiment."""
    input:
        unpack(analysis_inputs),
    output:
        points=f"{ANALYSIS}/points.parquet",
        starts=f"{ANALYSIS}/starts.parquet",
        summary=f"{ANALYSIS}/summary.parquet",
        difficulty=f"{ANALYSIS}/difficulty.parquet",
        domain=f"{ANALYSIS}/domain.parquet",
        questions=f"{ANALYSIS}/questions.parquet",
    log:
        "logs/compute_metrics/{experiment}.log",
    benchmark:
        "logs/benchmarks/compute_metrics/{experiment}.tsv"
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        mem_mb=8000,
        runtime=120,
    params:
        code=code("compute_metrics.py"),
        servers=analysis_servers,
        slo=lambda wildcards: config["experiments"][wildcards.experiment].get("slo"),
        ttfvt_horizon_s=lambda wildcards: config["experiments"][wildcards.experiment].get("ttfvt_horizon_s"),
        price_per_hour=config["analysis"].get("price_per_hour"),
    script:
        "../scripts/compute_metrics.py"


rule compare_runs:
    """Compare the servers of one experiment with another engine's, or with the baseline setup."""
    input:
        unpack(analysis_inputs),
        starts=f"{ANALYSIS}/starts.parquet",
    output:
        comparison=f"{ANALYSIS}/comparison-{{basis}}.parquet",
        interaction=f"{ANALYSIS}/interaction-{{basis}}.parquet",
        decomposition=f"{ANALYSIS}/decomposition-{{basis}}.parquet",
    log:
        "logs/compare_runs/{experiment}-{basis}.log",
    benchmark:
        "logs/benchmarks/compare_runs/{experiment}-{basis}.tsv"
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
        servers=analysis_servers,
        compared=lambda wildcards: STUDY.comparisons(wildcards.experiment, wildcards.basis),
        pairs=STUDY.pairs,
        margins=config["analysis"]["margins"],
    script:
        "../scripts/compare_runs.py"


rule check_derived:
    """Set measured budgets of one experiment beside what would have been derived for them."""
    input:
        unpack(analysis_inputs),
    output:
        f"{ANALYSIS}/derived_budgets.parquet",
    log:
        "logs/check_derived/{experiment}.log",
    benchmark:
        "logs/benchmarks/check_derived/{experiment}.tsv"
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        mem_mb=8000,
        runtime=60,
    params:
        code=code("check_derived.py"),
        servers=analysis_servers,
    script:
        "../scripts/check_derived.py"


rule count_false_positives:
    """Count how often servers that are the same as their baseline were called different from it."""
    input:
        [f"results/analysis/{experiment}/comparison-baseline.parquet" for experiment in IDENTICAL],
    output:
        "results/tables/false-positives.csv",
    log:
        "logs/count_false_positives.log",
    localrule: True
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        code=code("count_false_positives.py"),
        servers=sorted(server for servers in IDENTICAL.values() for server in servers),
    script:
        "../scripts/count_false_positives.py"


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
        level="points|starts|summary|difficulty|domain",
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
