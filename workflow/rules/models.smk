# A model is a folder that every engine can load, and model.json, which says what it is.


rule train_model:
    """Train one micro model from a fixed seed, on one core."""
    input:
        environment="resources/environments/train-cpu/environment.json",
        prompts=[PROMPTS / "arith.jinja", PROMPTS / "facts.jinja"],
    output:
        record="resources/models/{model}/model.json",
        checkpoint=directory("resources/models/{model}/checkpoint"),
    log:
        "logs/train_model/{model}.log",
    benchmark:
        "logs/benchmarks/train_model/{model}.tsv"
    wildcard_constraints:
        model=one_of(MICRO),
    priority: BEFORE_RUNS
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        code=code("train_model.py"),
        spec=lambda wildcards: STUDY.models[wildcards.model],
        seed=config["seed"],
    script:
        "../scripts/train_model.py"


rule fetch_model:
    """Download one model into the hub's cache, or check a local one, and describe it."""
    input:
        machine=CHECKED,
    output:
        "resources/models/{model}/model.json",
    log:
        "logs/fetch_model/{model}.log",
    wildcard_constraints:
        model=one_of(set(STUDY.models) - set(MICRO)),
    priority: BEFORE_RUNS
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=720,
    params:
        code=code("fetch_model.py"),
        spec=lambda wildcards: STUDY.models[wildcards.model],
    script:
        "../scripts/fetch_model.py"


rule check_tokenizer:
    """Compare the tokenizer that a program loads with the model's file; mend what differs, or refuse the model."""
    input:
        environment="resources/environments/{environment}/environment.json",
        model="resources/models/{checkpoint}/model.json",
    output:
        # Where something is mended, the folder of links lies beside it.
        "resources/models/{checkpoint}/for/{environment}/model.json",
    log:
        "logs/check_tokenizer/{checkpoint}-{environment}.log",
    wildcard_constraints:
        checkpoint=f"({one_of(STUDY.models)})(/({one_of(config['quantizations'])}))?",
        environment=f"({one_of([*ENGINES, 'quantize'])})-{DEVICE}",
    priority: BEFORE_RUNS
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        code=code("check_tokenizer.py"),
        spec=lambda wildcards: STUDY.models[wildcards.checkpoint.partition("/")[0]],
        key=lambda wildcards: checkpoint_key(*wildcards.checkpoint.split("/")),
    script:
        "../scripts/check_tokenizer.py"
