# Which answers are right. Touches no server: a changed grader grades the stored answers again.


rule grade:
    input:
        requests=f"{RUN}/requests.parquet",
        datasets=run_datasets,
    output:
        f"{RUN}/grades.parquet",
    log:
        "logs/grades/{experiment}/{engine}/{model}/{quantization}/{setup}.log",
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        datasets=run_dataset_names,
        timeout_s=config["grading"]["timeout_s"],
        execute_code=run_executes_code,
        library=library("grade.py", "grading.py", "answers.py", "math_worker.py", "sandbox.py", "sandbox_worker.py"),
    script:
        "../scripts/grade.py"
