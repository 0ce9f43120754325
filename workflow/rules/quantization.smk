# A model in another weight format: made once by llmcompressor, or ready-made, and checked before it is served.


rule quantize:
    input:
        environment=f"resources/environments/quantize-{DEVICE}/environment.json",
        model="resources/models/{model}/model.json",
        questions=quantization_questions,
        templates=quantization_templates,
    output:
        # The checkpoint lies beside it; it may be a link to one that is ready-made.
        "resources/models/{model}/{quantization}/model.json",
    log:
        "logs/quantizations/{model}-{quantization}.log",
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        gpu=lambda wildcards: STUDY.gpus(wildcards.model) if DEVICE == "cuda" else 0,
        mem_mb=lambda wildcards, attempt: PLAN.quantizing_mb(wildcards.model) * attempt,
        runtime=lambda wildcards, attempt: 720 * attempt,
    params:
        spec=lambda wildcards: STUDY.quantizations[wildcards.quantization],
        model_spec=lambda wildcards: STUDY.models[wildcards.model],
        sampling=config["sampling"],
        seed=config["seed"],
        device=DEVICE,
        library=library(
            "quantize.py",
            *(f"quantization/{module}.py" for module in ("calibration", "checks", "job", "making", "methods")),
            *("micro/questions.py", "micro/working.py"),
        ),
    script:
        "../scripts/quantize.py"
