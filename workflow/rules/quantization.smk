# A model in another weight format: made once by llmcompressor, or ready-made, and checked before it is served.


rule quantize:
    """Quantize one model by one method, or take a ready-made checkpoint, and check it."""
    input:
        machine=CHECKED,
        environment=f"resources/environments/quantize-{DEVICE}/environment.json",
        model=lambda wildcards: model_record(wildcards.model, "quantize"),
        questions=quantization_questions,
        templates=quantization_templates,
    output:
        # The checkpoint lies beside it; it may be a link to one that is ready-made.
        "resources/models/{model}/{quantization}/model.json",
    log:
        "logs/quantize/{model}-{quantization}.log",
    benchmark:
        "logs/benchmarks/quantize/{model}-{quantization}.tsv"
    priority: BEFORE_RUNS
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        gpu=lambda wildcards: STUDY.gpus(wildcards.model) if DEVICE == "cuda" else 0,
        mem_mb=lambda wildcards, attempt: PLAN.quantizing_mb(wildcards.model) * attempt,
        runtime=lambda wildcards, attempt: JOB_TIMES.quantizing_minutes(
            wildcards.model, wildcards.quantization, attempt
        ),
    params:
        code=code("quantize.py"),
        spec=lambda wildcards: STUDY.quantizations[wildcards.quantization],
        model_spec=lambda wildcards: STUDY.models[wildcards.model],
        sampling=config["sampling"],
        seed=config["seed"],
        device=DEVICE,
    script:
        "../scripts/quantize.py"
