# From requests and samples to metrics with intervals: per run, then together.


rule metrics:
    input:
        requests=f"{RUN}/requests.parquet",
        server=f"{RUN}/server.parquet",
        record=f"{RUN}/run.json",
        grades=f"{RUN}/grades.parquet",
    output:
        points=f"{RUN}/points.parquet",
        summary=f"{RUN}/summary.parquet",
        difficulty=f"{RUN}/difficulty.parquet",
        domain=f"{RUN}/domain.parquet",
    log:
        "logs/metrics/{experiment}/{engine}/{model}/{quantization}/{setup}.log",
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        mem_mb=8000,
        runtime=60,
    params:
        slo=lambda wildcards: config["experiments"][wildcards.experiment].get("slo"),
        library=library("metrics.py", *METRICS_MODULES),
    script:
        "../scripts/metrics.py"


# Two runs side by side: an engine against the first one, a setup or a quantization against the baseline.
rule compare:
    input:
        mine=[f"{RUN}/{name}" for name in COMPARED_FILES],
        reference=reference_files,
    output:
        versus=f"{RUN}/versus-{{basis}}.parquet",
        why=f"{RUN}/why-{{basis}}.parquet",
    log:
        "logs/compare/{experiment}/{engine}/{model}/{quantization}/{setup}-{basis}.log",
    wildcard_constraints:
        basis="engine|baseline",
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        mem_mb=8000,
        runtime=60,
    params:
        library=library("compare.py", *METRICS_MODULES, *COMPARE_MODULES),
    script:
        "../scripts/compare.py"


rule collect:
    input:
        rows=[f"results/runs/{folder}/{{level}}.parquet" for folder, r in STUDY.runs.items() if r.experiment in USUAL],
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
