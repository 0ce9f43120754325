# What rules take in, and what an experiment can give: functions of wildcards, and lists for the rules of the whole study.
import hashlib

import yaml


def run_of(wildcards):
    """The run that a rule's wildcards name."""
    folder = "/".join(wildcards[name] for name in RUN_WILDCARDS)
    if folder not in STUDY.runs:
        planned = [run.folder for run in STUDY.experiments[wildcards.experiment]]
        sys.exit(
            f"Error: the study has no run results/runs/{folder}; this experiment has {', '.join(planned[:3])}, ..."
        )
    return STUDY.runs[folder]


RUN_WILDCARDS = ("experiment", "engine", "model", "quantization", "setup", "start")
RUN = "results/runs/{experiment}/{engine}/{model}/{quantization}/{setup}/{start}"
# What is analysed together: all servers of an experiment, for they share what starts differ by.
ANALYSIS = "results/analysis/{experiment}"


# What the first job of a study on GPUs found.
MACHINE = "resources/machine.json"
# For jobs that fetch, build or serve. Only that it is there counts: a machine that is checked anew changes no result.
CHECKED = [ancient(MACHINE)] if DEVICE == "cuda" else []
if CHECKED and workflow.is_main_process and not Path(MACHINE).exists():
    if any(Path("resources/environments").glob("*-cuda/environment.json")):
        # What was built before there was a check need not be made again: Snakemake would, for an input that is new.
        Path(MACHINE).write_text("{}\n")


@cache
def machine_needs():
    """What the study needs of the machine that it runs on."""
    return requirements(PLAN, ENVS)


def serves_here():
    """Whether this call has jobs that use a GPU; not if it ends with stages that only fetch and build (`--until`)."""
    asked = workflow.dag_settings
    fetching = {"build_environment", "fetch_model", "load_dataset", "train_model", "check_machine"}
    only_made = set(asked.targets) == {"prepare"} and not QUANTIZED
    return not (only_made or (asked.until and set(asked.until) <= fetching))


def check_before_jobs():
    """End this call where this machine cannot do its jobs: the first job of a study looks once, a call may ask for more."""
    # Jobs of a cluster find another machine, and check it themselves.
    if DEVICE != "cuda" or not workflow.local_exec or workflow.touch:
        return
    jobs = [job for job in workflow.dag.needrun_jobs() if MACHINE in map(str, job.input)]
    if not jobs:
        return
    runs = [run_of(job.wildcards) for job in jobs if job.rule.name == "measure"]
    models = {job.wildcards.model for job in jobs if job.rule.name == "quantize"}
    needs = requirements_of_jobs(PLAN, ENVS, runs, models, {str(file) for job in jobs for file in job.output})
    try:
        _, findings = look(needs, Path("resources"), serves_here=bool(runs or models))
        findings.raise_problems()
    except UserError as error:
        sys.exit(f"Error: {error}")


def graded_requests(wildcards):
    """What the runs of a model in an experiment were answered."""
    return [
        f"results/runs/{run.folder}/requests.parquet"
        for run in STUDY.experiments[wildcards.experiment]
        if run.model == wildcards.model
    ]


def graded_records(wildcards):
    """What those runs recorded about themselves, in the same order."""
    return [f"{Path(requests).parent}/run.json" for requests in graded_requests(wildcards)]


def analysis_inputs(wildcards):
    """What the runs of an experiment measured, the grades of each model, and its answers under derived budgets."""
    experiment = wildcards.experiment
    names = {"requests": "requests.parquet", "server": "server.parquet", "record": "run.json"}
    files = {
        key: [f"results/runs/{run.folder}/{name}" for run in STUDY.experiments[experiment]]
        for key, name in names.items()
    }
    models = dict.fromkeys(run.model for run in STUDY.experiments[experiment])
    graded = {"grades": models, "derived": models if STUDY.derivations[experiment] else []}
    return files | {
        kind: [f"results/analysis/{experiment}/{kind}/{model}.parquet" for model in names]
        for kind, names in graded.items()
    }


def derivations_of(wildcards):
    """(budget, budget that it is cut from, whether it was measured too) of all that an experiment derives."""
    return [list(derivation) for derivation in STUDY.derivations[wildcards.experiment]]


def analysis_servers(wildcards):
    """The server of each run of an experiment, in the order of analysis_inputs."""
    return [run.server for run in STUDY.experiments[wildcards.experiment]]


def capacity_runs(wildcards):
    """(server, run) of each start of the servers that an experiment's capacity is measured on."""
    return [(server, run) for server, runs in STUDY.capacity(wildcards.experiment).items() for run in runs]


def run_datasets(wildcards):
    """Question files that a run asks, in the order of run_dataset_names."""
    return [f"resources/datasets/{name}.parquet" for name in run_dataset_names(wildcards)]


def run_dataset_names(wildcards):
    """Datasets that an experiment, and so each of its runs, asks."""
    return sorted(STUDY.sweeps[wildcards.experiment]["datasets"])


def experiment_sweep(wildcards):
    """What the points of an experiment are combined from: the same for all its servers."""
    return STUDY.sweeps[wildcards.experiment]


def run_executes_code(wildcards):
    """Whether answers of an experiment are code that is to be run; false, whatever the config, where none are."""
    return config["grading"]["execute_code"] and bool(STUDY.code(wildcards.experiment))


def run_inputs(wildcards):
    """What a run needs. One function for all: Snakemake takes a quarter of a millisecond to call one, for every run."""
    experiment, run = wildcards.experiment, run_of(wildcards)
    drafts = [run.options.draft_model] if run.options.draft_model else []
    own = {
        "machine": CHECKED,
        "environment": [f"resources/environments/{wildcards.engine}-{DEVICE}/environment.json"],
        "model": [model_record(wildcards.model, wildcards.engine, wildcards.quantization)],
    }
    # A server that already runs brings all of it.
    return (own if run.endpoint is None else dict.fromkeys(own, [])) | {
        "draft": [model_record(draft, wildcards.engine) for draft in drafts],
        "arrivals": [f"results/arrivals/{experiment}.parquet"] if STUDY.open_loop(experiment) else [],
        "datasets": run_datasets(wildcards),
        "templates": [PROMPTS / f"{STUDY.datasets[name]['prompt']}.jinja" for name in run_dataset_names(wildcards)],
    }


def files_of(experiment, level):
    """That file of an experiment; `comparison-…`, `interaction-…` and `decomposition-…` where something is compared."""
    kind, _, basis = level.partition("-")
    compared = not basis or STUDY.comparisons(experiment, basis)
    return [f"results/analysis/{experiment}/{level}.parquet"] if compared else []


def claimed():
    """Experiments that claims ask about: those of the default study, and optional ones that were measured already."""
    return [
        experiment
        for experiment in claimed_experiments(CLAIMS, STUDY)
        if experiment in DEFAULT_EXPERIMENTS or Path(f"results/analysis/{experiment}/starts.parquet").exists()
    ]


CLAIMED = claimed()
# Tables and figures that each of them has, for the evidence.
OUTPUTS = {
    experiment: {
        "figures": catalogue.possible(catalogue.FIGURES, STUDY, experiment),
        "tables": catalogue.possible(catalogue.TABLES, STUDY, experiment),
    }
    for experiment in CLAIMED
}


def table_inputs(wildcards):
    """The files that a table is made from."""
    return [
        file for source in catalogue.TABLES[wildcards.table].sources for file in files_of(wildcards.experiment, source)
    ]


def unsupported_servers(experiment, output):
    """Servers that an experiment asks for and cannot have, for the tables and the figure that list them all."""
    listed = output in ("main", "optimisations")
    return [row for row in STUDY.unsupported if listed and row["experiment"] == experiment]


def figure_inputs(wildcards):
    """A figure's files, named by what they hold, of all of its experiment."""
    runs = STUDY.experiments[wildcards.experiment]
    return {
        source: (
            [f"results/runs/{run.folder}/{source}.parquet" for run in runs]
            if source in ("requests", "server")
            else files_of(wildcards.experiment, source)
        )
        for source in catalogue.FIGURES[wildcards.figure].sources
    }


def older_study():
    """The results folder that this study is compared with, or None."""
    return config["compare_with"] and str(Path(config["compare_with"]).expanduser())


def studies_inputs(wildcards):
    """What two studies are compared by, of both; nothing where the config names no older one."""
    if older_study() is None:
        return {}
    tables = ("starts.parquet", "summary.parquet")
    return {
        "then": [f"{older_study()}/{table}" for table in tables],
        "now": [*(f"results/{table}" for table in tables), "results/claims.parquet"],
        "comparisons": [
            file
            for experiment in DEFAULT_EXPERIMENTS
            for basis in ("engine", "baseline")
            for file in files_of(experiment, f"comparison-{basis}")
        ],
        "questions": [file for experiment in DEFAULT_EXPERIMENTS for file in files_of(experiment, "questions")],
    }


def writes_results():
    """Whether a job of this call writes under results/."""
    jobs = workflow.dag.needrun_jobs()
    return any(str(file).startswith("results/") for job in jobs for file in job.output)


def measuring_is_forced():
    """Whether the user asks for runs again that need not be measured (--forceall, --force, --forcerun)."""
    asked = workflow.dag_settings
    named = any(name == "measure" or str(name).startswith("results/runs") for name in asked.forcerun)
    return asked.forceall or asked.forcetargets or named


def target_name(experiment):
    """The target of an experiment is its name, unless a stage of the workflow has that already."""
    if experiment in {stage.name for stage in workflow.rules}:
        sys.exit(f"Error in the config: experiments.{experiment}: the workflow has a rule so named; choose another")
    return experiment


def tables_of(experiment):
    """Every table that an experiment can give, in its three formats."""
    return [
        f"results/tables/{experiment}-{table}.{suffix}"
        for table in catalogue.possible(catalogue.TABLES, STUDY, experiment)
        for suffix in ("csv", "md", "tex")
    ]


def figures_of(experiment):
    """Every figure that an experiment can give, in both formats."""
    return [
        f"results/figures/{experiment}-{figure}.{suffix}"
        for figure in catalogue.possible(catalogue.FIGURES, STUDY, experiment)
        for suffix in ("pdf", "png")
    ]


# What the report shows, of all default experiments.
REPORTED_TABLES = [file for experiment in DEFAULT_EXPERIMENTS for file in tables_of(experiment)]
REPORTED_FIGURES = [file for experiment in DEFAULT_EXPERIMENTS for file in figures_of(experiment)]
FALSE_POSITIVES = ["results/tables/false-positives.csv"] if IDENTICAL else []


def page_digest():
    """What the report's templates are, as one digest: a changed one makes the page again."""
    folder = LIBRARY.folder / "report" / "templates"
    content = b"".join(file.read_bytes() for file in sorted(folder.iterdir()) if file.is_file())
    return hashlib.sha256(content).hexdigest()[:16]


def reported_config():
    """The whole config as text, without what is the machine's or the cluster's and decides no result."""
    own = ("environments", "max_run_minutes")
    return yaml.safe_dump({key: value for key, value in config.items() if key not in own}, sort_keys=True)
