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


rule collect_runs:
    """Collect what every run recorded about itself (versions, machine, times, hashes), and its servers' options."""
    input:
        records=[
            f"results/runs/{run.folder}/run.json" for name in DEFAULT_EXPERIMENTS for run in STUDY.experiments[name]
        ],
    output:
        runs="results/runs.csv",
        options=report(
            "results/tables/effective-options.csv",
            caption="../report/effective-options.rst",
            category="Options",
            labels={"table": "asked and effective"},
        ),
    log:
        "logs/collect_runs.log",
    localrule: True
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        code=code("collect_runs.py"),
    script:
        "../scripts/collect_runs.py"


# Not `report`, which is a word of Snakemake's own language.
rule write_report:
    """Write the study's report, one HTML file: claims, a chapter an experiment, optimisations, how to measure again."""
    input:
        tables=[file for file in REPORTED_TABLES if file.endswith(".csv")],
        figures=[file for file in REPORTED_FIGURES if file.endswith(".png")],
        points=["results/points.parquet"],
        summary=["results/summary.parquet"],
        runs=["results/runs.csv"],
        options=["results/tables/effective-options.csv"],
        false_positives=FALSE_POSITIVES,
        claims=["results/claims.json"],
        captions=[WORKFLOW / "report" / "figure.rst", WORKFLOW / "report" / "table.rst"],
    output:
        report(
            "results/report.html",
            caption="../report/page.rst",
            category="Report",
        ),
    log:
        "logs/write_report.log",
    localrule: True
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        code=code("write_report.py"),
        templates=page_digest(),
        experiments=list(DEFAULT_EXPERIMENTS),
        pairs=STUDY.pairs,
        identical=sorted(server for servers in IDENTICAL.values() for server in servers),
        config=reported_config(),
    script:
        "../scripts/write_report.py"
