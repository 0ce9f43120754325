# What all rules share: the validated study and small helpers. Functions live here, rules in the other files.
import hashlib
import os
import re
import sys
from functools import cache
from pathlib import Path

import yaml
from snakemake.logging import logger

# Relative, because Snakemake records inputs by their paths: a study that is moved or cloned anew keeps its results.
# From where this file is, for this may be a module of another workflow.
WORKFLOW = Path(os.path.relpath(workflow.current_basedir.get_path_or_uri(secret_free=True))).parent
if not (WORKFLOW / "rllm_serving").is_dir():
    sys.exit("Error: this workflow has a library beside its rules: clone it and name the clone's workflow/Snakefile")
ENVS = WORKFLOW / "envs"
PROMPTS = Path(os.path.relpath(WORKFLOW.parent / "resources" / "prompts"))

# For this process, and for the scripts that it starts.
sys.path.insert(0, str(WORKFLOW.absolute()))
os.environ.update(PYTHONPATH=str(WORKFLOW.absolute()))

from rllm_serving.code_digest import Library
from rllm_serving.report import catalogue
from rllm_serving.serving.engines import ENGINES
from rllm_serving.environments import resolve_device
from rllm_serving.study.config import complete_config
from rllm_serving.study.config_errors import ConfigError
from rllm_serving.study.config_file import check_file
from rllm_serving.study.estimate import Plan
from rllm_serving.study.study import Study


def load_study():
    """The study of this config, or one line that says which key is wrong."""
    try:
        for file in workflow.configfiles:
            check_file(Path(file))
        # In place: rules and scripts read the defaults from it.
        config.update(complete_config(config))
        if config["device"] == "auto" and workflow.remote_exec:
            # The jobs of a cluster would plan another study than the machine that sent them.
            raise ConfigError("device: 'auto' is what one machine finds; jobs on others need cpu or cuda")
        return Study(config, PROMPTS, resolve_device(config["device"]))
    except ConfigError as error:
        # Not a WorkflowError: Snakemake adds the place in this file, which is not where the mistake is.
        sys.exit(f"Error in the config: {error}")


STUDY = load_study()
PLAN = Plan(STUDY)
if workflow.is_main_process:
    for note in STUDY.notes():
        logger.warning(note)
DEVICE = STUDY.device
# Optional experiments are made only when they are asked for by name.
DEFAULT_EXPERIMENTS = STUDY.default_experiments
MICRO = [name for name, spec in STUDY.models.items() if spec["source"] == "micro"]
MODELS = STUDY.checkpoints(STUDY.experiments)


def one_of(names):
    """A wildcard constraint that matches exactly these names."""
    return "|".join(map(re.escape, sorted(names))) or "(?!)"


LIBRARY = Library(WORKFLOW.absolute() / "rllm_serving")


def code(script):
    """Digests of a rule's script and of the modules that it executes, a folder each: when one changes, results are stale.

    As a parameter, not as inputs: Snakemake looks at every input of every job, in every call. By folders, for Snakemake
    shows parameters that changed, of every job: that is to be short, and still to say where.
    """
    return LIBRARY.digests(LIBRARY.folder.parent / "scripts" / script)


@cache
def figure_code(figure):
    """Digests of the module that draws a figure and of those that it executes, beside the script's own."""
    file = catalogue.FIGURES[figure].function.split(":")[0] + ".py"
    return LIBRARY.digests(LIBRARY.folder / "report" / "figures" / file)


# Servers of the default experiments that are the same as their baseline, by experiment.
IDENTICAL = {name: servers for name in DEFAULT_EXPERIMENTS if (servers := STUDY.identical_to_baseline(name))}
# Models that runs serve in a format of their own, with that format's name.
QUANTIZED = STUDY.quantized(STUDY.experiments)


def model_record(wildcards):
    """What describes the checkpoint that a run serves: the quantized one, if its method has one, or the model's own."""
    quantized = STUDY.has_checkpoint(wildcards.quantization)
    return f"resources/models/{wildcards.model}/{f'{wildcards.quantization}/' * quantized}model.json"


def quantization_questions(wildcards):
    """The dataset that a model is quantized and checked with; micro models have questions of their own."""
    if wildcards.model in MICRO:
        return []
    return [f"resources/datasets/{STUDY.quantizations[wildcards.quantization]['dataset']}.parquet"]


def quantization_templates(wildcards):
    """Prompt templates of those questions: of the dataset, or for both kinds of answer that micro models are asked."""
    if wildcards.model in MICRO:
        return [PROMPTS / "arith.jinja", PROMPTS / "facts.jinja"]
    dataset = STUDY.quantizations[wildcards.quantization]["dataset"]
    return [PROMPTS / f"{STUDY.datasets[dataset]['prompt']}.jinja"]


def environment_imports(environment):
    """Modules that an environment must import to count as built."""
    engine = environment.rpartition("-")[0]
    if engine == "quantize":
        return ["llmcompressor", "torch"]
    return [ENGINES[engine].module, "torch"] if engine in ENGINES else ["torch", "transformers"]


def run_of(wildcards):
    """The run that a rule's wildcards name."""
    return STUDY.runs["/".join(wildcards[name] for name in RUN_WILDCARDS)]


RUN_WILDCARDS = ("experiment", "engine", "model", "quantization", "setup", "start")
RUN = "results/runs/{experiment}/{engine}/{model}/{quantization}/{setup}/{start}"
# What is analysed together: all servers of an experiment, for they share what starts differ by.
ANALYSIS = "results/analysis/{experiment}"


def graded_requests(wildcards):
    """What the runs of a model in an experiment were answered."""
    return [
        f"results/runs/{run.folder}/requests.parquet"
        for run in STUDY.experiments[wildcards.experiment]
        if run.model == wildcards.model
    ]


def analysis_inputs(wildcards):
    """What the runs of an experiment measured, and the grades of each model."""
    experiment = wildcards.experiment
    names = {"requests": "requests.parquet", "server": "server.parquet", "record": "run.json"}
    files = {
        key: [f"results/runs/{run.folder}/{name}" for run in STUDY.experiments[experiment]]
        for key, name in names.items()
    }
    models = dict.fromkeys(run.model for run in STUDY.experiments[experiment])
    return files | {"grades": [f"results/analysis/{experiment}/grades/{model}.parquet" for model in models]}


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
    experiment, options = wildcards.experiment, run_of(wildcards).options
    drafts = [options.draft_model] if options.draft_model else []
    return {
        "environment": f"resources/environments/{wildcards.engine}-{DEVICE}/environment.json",
        "model": model_record(wildcards),
        "draft": [f"resources/models/{draft}/model.json" for draft in drafts],
        "arrivals": [f"results/arrivals/{experiment}.parquet"] if STUDY.open_loop(experiment) else [],
        "datasets": run_datasets(wildcards),
        "templates": [PROMPTS / f"{STUDY.datasets[name]['prompt']}.jinja" for name in run_dataset_names(wildcards)],
    }


def files_of(experiment, level):
    """That file of an experiment; `comparison-…`, `interaction-…` and `decomposition-…` where something is compared."""
    kind, _, basis = level.partition("-")
    compared = not basis or STUDY.comparisons(experiment, basis)
    return [f"results/analysis/{experiment}/{level}.parquet"] if compared else []


def table_inputs(wildcards):
    """The files that a table is made from."""
    return [
        file for source in catalogue.TABLES[wildcards.table].sources for file in files_of(wildcards.experiment, source)
    ]


def table_unsupported(wildcards):
    """Servers that an experiment asks for and cannot have, for the table that lists them all."""
    return [
        row
        for row in STUDY.unsupported
        if wildcards.table in ("main", "optimisations") and row["experiment"] == wildcards.experiment
    ]


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


def claims_files():
    """The verdicts on the study's claims, for the report; none as long as nothing makes them."""
    return []


def page_digest():
    """What the report's templates are, as one digest: a changed one makes the page again."""
    folder = LIBRARY.folder / "report" / "templates"
    content = b"".join(file.read_bytes() for file in sorted(folder.iterdir()) if file.is_file())
    return hashlib.sha256(content).hexdigest()[:16]


def reported_config():
    """The whole config as text. Not where wheels are taken from, which is the machine's and decides no result."""
    return yaml.safe_dump({key: value for key, value in config.items() if key != "environments"}, sort_keys=True)


wildcard_constraints:
    experiment=one_of(config["experiments"]),
    engine=one_of(ENGINES),
    model=one_of(STUDY.models),
    quantization=one_of(config["quantizations"]),
    setup=one_of(config["setups"]),
    start=r"\d+",
    dataset=one_of(STUDY.datasets),
