# What all rules share: the validated study and small helpers. Functions live here, rules in the other files.
import os
import re
import sys
from functools import cache
from pathlib import Path

from snakemake.cli import get_argument_parser
from snakemake.logging import logger
from snakemake.utils import update_config

# Relative, because Snakemake records inputs by their paths: a study that is moved or cloned anew keeps its results.
# From where this file is, for this may be a module of another workflow.
WORKFLOW = Path(os.path.relpath(workflow.current_basedir.get_path_or_uri(secret_free=True))).parent
if not (WORKFLOW / "rllm_serving").is_dir():
    sys.exit("Error: this workflow has a library beside its rules: clone it and name the clone's workflow/Snakefile")
# Snakemake puts a script's path into a command, and takes what stands in braces for a wildcard.
for place, advice in (WORKFLOW.resolve(), "move it"), (Path.cwd(), "give another --directory"):
    if re.search(r"[\s{}]", str(place)):
        sys.exit(f"Error: Snakemake cannot run scripts in {place}: its path has a blank or a brace; {advice}")
ENVS = WORKFLOW / "envs"
RESOURCES = Path(os.path.relpath(WORKFLOW.parent / "resources"))
PROMPTS = RESOURCES / "prompts"

# For this process, and for the scripts that it starts.
sys.path.insert(0, str(WORKFLOW.absolute()))
os.environ.update(PYTHONPATH=str(WORKFLOW.absolute()))

from rllm_serving.claims.planning import claimed_experiments, facts_of, load_claims
from rllm_serving.code_digest import Library
from rllm_serving.errors import UserError
from rllm_serving.load.trace_checks import check_traces
from rllm_serving.report import catalogue
from rllm_serving.serving.engines import ENGINES
from rllm_serving.environments import resolve_device
from rllm_serving.study.cluster import JobTimes
from rllm_serving.study.command_line import typed_values
from rllm_serving.study.config import complete_config
from rllm_serving.study.config_errors import ConfigError
from rllm_serving.study.config_file import check_file
from rllm_serving.study.estimate import Plan
from rllm_serving.study.machine_check import look
from rllm_serving.study.requirements import requirements, requirements_of_jobs
from rllm_serving.study.results_owner import check_results, mark_results
from rllm_serving.study.sent import notes as endpoint_notes
from rllm_serving.study.study import Study


def asked_targets():
    """What this call asks for; Snakemake itself tells that only when the rules are read."""
    call = get_argument_parser().parse_known_args(sys.argv[1:])[0]
    return ["plan"] if call.unlock or call.list_rules or call.list_target_rules or call.lint else call.targets


def load_study():
    """The study of this config and its claims, or one line that says which key is wrong."""
    try:
        for file in workflow.configfiles:
            check_file(Path(file))
        if not workflow.modifier.skip_configfile:
            # Of a module, `--config` is the outer workflow's.
            update_config(config, typed_values(workflow.config_settings.config_args))
        # In place: rules and scripts read the defaults from it.
        config.update(complete_config(config))
        if config["device"] == "auto" and workflow.remote_exec:
            # The jobs of a cluster would plan another study than the machine that sent them.
            raise ConfigError("device: 'auto' is what one machine finds; jobs on others need cpu or cuda")
        study = Study(config, PROMPTS, resolve_device(config["device"]))
        claims = load_claims(RESOURCES / "claims.yaml", study)
        if workflow.is_main_process and not workflow.modifier.skip_configfile:
            check_results(study.name, asked_targets)
        if workflow.is_main_process:
            for note in (*study.notes(), *endpoint_notes(Plan(study)), *check_traces(study)):
                logger.warning(note)
        return study, claims
    except UserError as error:
        # Not a WorkflowError: Snakemake adds the place in this file, which is not where the mistake is.
        sys.exit(f"Error in the config: {error}")


STUDY, CLAIMS = load_study()
PLAN = Plan(STUDY)
JOB_TIMES = JobTimes(PLAN)
if workflow.is_main_process:
    for note in JOB_TIMES.notes():
        logger.warning(note)
DEVICE = STUDY.device
# Of jobs that make what runs need: one that waited behind runs would put its own runs behind all others, and what they
# are compared with would have been measured at another time.
BEFORE_RUNS = 1 + max(STUDY.priorities.values(), default=0)
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


def model_record(model, program, quantization="bf16"):
    """What describes the checkpoint that a program loads: the quantized one, if its method has one, or the model's own."""
    quantized = STUDY.has_checkpoint(quantization)
    return f"resources/models/{model}/{f'{quantization}/' * quantized}for/{program}-{DEVICE}/model.json"


# What the engines of all runs load, drafts included; servers that already run bring theirs.
STARTED_RUNS = [run for run in STUDY.runs.values() if run.endpoint is None]
SERVED_CHECKPOINTS = sorted(
    {model_record(run.model, run.engine, run.quantization) for run in STARTED_RUNS}
    | {model_record(run.options.draft_model, run.engine) for run in STARTED_RUNS if run.options.draft_model is not None}
)


def checkpoint_key(model, quantization=None):
    """The key of the config that a checkpoint comes from."""
    ready_made = quantization and model in config["quantizations"][quantization].get("checkpoints", {})
    return f"quantizations.{quantization}.checkpoints.{model}" if ready_made else f"models.{model}"


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


def environment_compiles(environment):
    """A program that compiles one kernel as the environment's engine will; empty where nothing is compiled."""
    engine, _, device = environment.rpartition("-")
    return ENGINES[engine].compiles.get(device, "") if engine in ENGINES else ""


wildcard_constraints:
    experiment=one_of(config["experiments"]),
    engine=one_of([*ENGINES, *STUDY.engines]),
    model=one_of(STUDY.models),
    quantization=one_of(config["quantizations"]),
    setup=one_of(config["setups"]),
    start=r"\d+",
    dataset=one_of(STUDY.datasets),
