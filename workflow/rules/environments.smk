# One environment an engine and device, from its lock, built only when a run needs it.


rule build_environment:
    """Build one engine's Python environment from its lock and prove that it imports and compiles."""
    input:
        lock=ENVS / "{environment}.txt",
        machine=CHECKED,
    output:
        "resources/environments/{environment}/environment.json",
    log:
        "logs/build_environment/{environment}.log",
    benchmark:
        "logs/benchmarks/build_environment/{environment}.tsv"
    priority: BEFORE_RUNS
    conda:
        "../envs/workflow.yaml"
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        code=code("build_environment.py"),
        imports=lambda wildcards: environment_imports(wildcards.environment),
        compiles=lambda wildcards: environment_compiles(wildcards.environment),
    script:
        "../scripts/build_environment.py"
