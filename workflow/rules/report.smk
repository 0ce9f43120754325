# What people read: tables and figures, one set an experiment.


rule make_table:
    """Write one table of one experiment as CSV, Markdown and LaTeX."""
    input:
        rows=table_inputs,
    output:
        csv=report(
            "results/tables/{experiment}-{table}.csv",
            caption="../report/table.rst",
            category="{experiment}",
            subcategory="Tables",
            labels={"table": "{table}"},
        ),
        md="results/tables/{experiment}-{table}.md",
        tex="results/tables/{experiment}-{table}.tex",
    log:
        "logs/make_table/{experiment}-{table}.log",
    wildcard_constraints:
        table=one_of(catalogue.TABLES),
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        code=code("make_table.py"),
        unsupported=lambda wildcards: unsupported_servers(wildcards.experiment, wildcards.table),
    script:
        "../scripts/make_table.py"


rule plot_figure:
    """Draw one figure of one experiment as PDF and PNG."""
    input:
        unpack(figure_inputs),
    output:
        pdf="results/figures/{experiment}-{figure}.pdf",
        png=report(
            "results/figures/{experiment}-{figure}.png",
            caption="../report/figure.rst",
            category="{experiment}",
            subcategory="Figures",
            labels={"figure": "{figure}"},
        ),
    log:
        "logs/plot_figure/{experiment}-{figure}.log",
    wildcard_constraints:
        figure=one_of(catalogue.FIGURES),
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        # Rows of requests and samples are many, those of points and comparisons few.
        mem_mb=lambda wildcards: (
            8000 if {"requests", "server"} & set(catalogue.FIGURES[wildcards.figure].sources) else 2000
        ),
        runtime=30,
    params:
        code=code("plot_figure.py"),
        pairs=STUDY.pairs,
        unsupported=lambda wildcards: unsupported_servers(wildcards.experiment, wildcards.figure),
        function=lambda wildcards: catalogue.FIGURES[wildcards.figure].function,
        module_code=lambda wildcards: figure_code(wildcards.figure),
    script:
        "../scripts/plot_figure.py"
