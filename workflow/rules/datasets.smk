# Every question set in one form: resources/datasets/{dataset}.parquet, a row a question.


rule dataset:
    output:
        "resources/datasets/{dataset}.parquet",
    log:
        "logs/datasets/{dataset}.log",
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        spec=lambda wildcards: STUDY.datasets[wildcards.dataset],
        seed=config["seed"],
        library=library("dataset.py", "datasets.py", "micro/facts.py", "micro/questions.py"),
    script:
        "../scripts/dataset.py"
