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


rule compare_studies:
    """Set this study beside the older one of `compare_with`: metrics, verdicts and versions that changed."""
    input:
        unpack(studies_inputs),
    output:
        table=report(
            "results/tables/studies.csv",
            caption="../report/studies.rst",
            category="Two studies",
            labels={"table": "studies"},
        ),
        md="results/tables/studies.md",
        tex="results/tables/studies.tex",
        versions=report(
            "results/tables/studies-versions.csv",
            caption="../report/studies.rst",
            category="Two studies",
            labels={"table": "versions"},
        ),
        verdicts="results/tables/studies-verdicts.csv",
        claims="results/tables/studies-claims.csv",
        unmatched="results/tables/studies-unmatched.csv",
        pdf="results/figures/studies.pdf",
        png=report(
            "results/figures/studies.png",
            caption="../report/studies.rst",
            category="Two studies",
            labels={"figure": "studies"},
        ),
    log:
        "logs/compare_studies.log",
    localrule: True
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        mem_mb=8000,
        runtime=60,
    params:
        code=code("compare_studies.py"),
        figure_code=LIBRARY.digests(LIBRARY.folder / "report" / "figures" / "studies.py"),
        then=older_study(),
        pairs=STUDY.pairs,
        margins=config["analysis"]["margins"],
    script:
        "../scripts/compare_studies.py"
