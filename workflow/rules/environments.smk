# One environment an engine and device, from its lock, built only when a run needs it.


rule environment:
    input:
        lock=ENVS / "{environment}.txt",
    output:
        "resources/environments/{environment}/environment.json",
    log:
        "logs/environments/{environment}.log",
    conda:
        "../envs/workflow.yaml"
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        imports=lambda wildcards: environment_imports(wildcards.environment),
    script:
        "../scripts/environment.py"
