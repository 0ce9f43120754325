# Every question set in one form: resources/datasets/{dataset}.parquet, a row a question.


rule load_dataset:
    """Write one question set in the common form, a row a question."""
    input:
        machine=CHECKED,
    output:
        "resources/datasets/{dataset}.parquet",
    log:
        "logs/load_dataset/{dataset}.log",
    priority: BEFORE_RUNS
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        code=code("load_dataset.py"),
        spec=lambda wildcards: STUDY.datasets[wildcards.dataset],
        seed=config["seed"],
    script:
        "../scripts/load_dataset.py"
