# What people read: tables and figures, one set an experiment.


rule table:
    input:
        rows=table_inputs,
    output:
        csv="results/tables/{experiment}-{table}.csv",
        md="results/tables/{experiment}-{table}.md",
        tex="results/tables/{experiment}-{table}.tex",
    log:
        "logs/tables/{experiment}-{table}.log",
    wildcard_constraints:
        table=one_of(TABLE_SOURCES),
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        unsupported=table_unsupported,
        library=library("table.py", "analysis/compare.py", "analysis/comparisons.py", "analysis/tables.py"),
    script:
        "../scripts/table.py"


rule figure:
    input:
        unpack(figure_inputs),
    output:
        pdf="results/figures/{experiment}-{figure}.pdf",
        png="results/figures/{experiment}-{figure}.png",
    log:
        "logs/figures/{experiment}-{figure}.log",
    wildcard_constraints:
        figure=one_of(FIGURE_SOURCES),
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        mem_mb=8000,
        runtime=30,
    params:
        pairs=STUDY.pairs,
        library=lambda wildcards: library(
            "figure.py", f"figures/{wildcards.figure}.py", "figures/style.py", "figures/sweep.py", "figures/ratios.py"
        ),
    script:
        "../scripts/figure.py"
