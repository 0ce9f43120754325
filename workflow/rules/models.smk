# A model is a folder that every engine can load, and model.json, which says what it is.


# The micro models: trained here from fixed seeds, one core each.
rule train_model:
    input:
        environment="resources/environments/train-cpu/environment.json",
        prompts=[PROMPTS / "arith.jinja", PROMPTS / "facts.jinja"],
    output:
        record="resources/models/{model}/model.json",
        checkpoint=directory("resources/models/{model}/checkpoint"),
    log:
        "logs/models/{model}.log",
    wildcard_constraints:
        model=one_of(MICRO),
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        spec=lambda wildcards: STUDY.models[wildcards.model],
        seed=config["seed"],
        library=library("train_model.py", *(f"micro/{module}.py" for module in MICRO_MODULES)),
    script:
        "../scripts/train_model.py"


# Models from the hub (into the hub's own cache) or from a local folder.
rule fetch_model:
    output:
        "resources/models/{model}/model.json",
    log:
        "logs/models/{model}.log",
    wildcard_constraints:
        model=one_of(set(STUDY.models) - set(MICRO)),
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=720,
    params:
        spec=lambda wildcards: STUDY.models[wildcards.model],
    script:
        "../scripts/fetch_model.py"
