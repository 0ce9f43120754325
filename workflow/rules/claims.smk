# What the study says: the claims' hypotheses, with effects, intervals and verdicts.


rule evaluate_claims:
    """Give each claim a verdict, for every pair and engine of the study."""
    input:
        claims=RESOURCES / "claims.yaml",
        points=[f"results/analysis/{name}/points.parquet" for name in CLAIMED],
        starts=[f"results/analysis/{name}/starts.parquet" for name in CLAIMED],
        questions=[f"results/analysis/{name}/questions.parquet" for name in CLAIMED],
    output:
        parquet="results/claims.parquet",
        csv="results/claims.csv",
        md="results/claims.md",
        json="results/claims.json",
    log:
        "logs/evaluate_claims.log",
    localrule: True
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        code=code("evaluate_claims.py"),
        experiments=CLAIMED,
        own=config["claims"],
        facts=facts_of(STUDY).plain(),
        outputs=OUTPUTS,
    script:
        "../scripts/evaluate_claims.py"
