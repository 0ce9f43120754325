# Which answers are right. Touches no server: a changed grader grades the stored answers again.


# One job for all runs of a model in an experiment: they are asked the same, and equal answers are graded once.
rule grade:
    """Grade the answers of one model in one experiment; starts no server."""
    input:
        requests=graded_requests,
        datasets=run_datasets,
    output:
        f"{ANALYSIS}/grades/{{model}}.parquet",
    log:
        "logs/grade/{experiment}/{model}.log",
    benchmark:
        "logs/benchmarks/grade/{experiment}/{model}.tsv"
    conda:
        "../envs/workflow.yaml"
    threads: 4
    resources:
        mem_mb=4000,
        runtime=240,
    params:
        code=code("grade.py"),
        datasets=run_dataset_names,
        timeout_s=config["grading"]["timeout_s"],
        execute_code=run_executes_code,
    script:
        "../scripts/grade.py"


rule grade_derived:
    """Cut the answers of one model in one experiment to its derived budgets, and grade them; starts no server."""
    input:
        requests=graded_requests,
        records=graded_records,
        datasets=run_datasets,
    output:
        f"{ANALYSIS}/derived/{{model}}.parquet",
    log:
        "logs/grade_derived/{experiment}/{model}.log",
    benchmark:
        "logs/benchmarks/grade_derived/{experiment}/{model}.tsv"
    conda:
        "../envs/workflow.yaml"
    threads: 4
    resources:
        mem_mb=4000,
        runtime=240,
    params:
        code=code("grade_derived.py"),
        derivations=derivations_of,
        datasets=run_dataset_names,
        timeout_s=config["grading"]["timeout_s"],
        execute_code=run_executes_code,
    script:
        "../scripts/grade_derived.py"
