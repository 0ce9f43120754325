"""The config: its keys with type, default and meaning, of which the schema and the tables of config/README.md are made.

Its completed form is a plain dictionary with all defaults; a key without a default is there only when it was given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, ValidationError

from .config_base import MOST, Count, HubId, Name, Names, NamesOrAll, Rule, Section, Text, Unique, key
from .config_claims import Claim
from .config_engines import EnginesOrNames
from .config_errors import first_error
from .config_inputs import Dataset, Model, Quantizations, Trace
from .config_options import Analysis, Environments, ExperimentSampling, Grading, Measurement, Sampling, Serving
from .design import canonical_json


class Setups(Section, extra="allow"):
    """Serving options by name."""

    baseline: Serving = key(Serving(), allowed="as `serving` above")
    """the study's and the model's options alone; always there"""
    __pydantic_extra__: dict[Name, Serving]
    entry: ClassVar[type[Section]] = Serving


class Load(Section):
    """How requests arrive."""

    type: Literal["batch", "closed", "open", "trace"]
    """`batch`: so many at once, wait for all, then the next; `closed`: always so many in flight; `open`: at times drawn
    with Gamma-distributed gaps; `trace`: at those of a trace. The latter two are open-loop: they send on schedule
    whatever the server does, and waiting counts from the schedule"""
    size: Count = key(allowed="whole number, up to the questions asked")
    """batch size, or requests in flight"""
    rate: float = key(shown="this or `load_factor` for open and trace", ge=1e-6, le=1_000_000)
    """requests/s"""
    load_factor: float = key(shown="this or `rate` for open and trace", ge=1e-6, le=1000)
    """share of `capacity`: the same load for the machine, whatever the machine"""
    burstiness: float = key(ge=0.01, le=1_000_000)
    """shape of the Gamma distribution: 1 is Poisson, smaller is burstier (coefficient of variation: burstiness^-1/2)"""
    trace: Name = key(allowed="a name of `traces`")
    """the trace, rescaled to the rate"""
    replay_output_lengths: bool = key(shown="false")
    """whether answers are made as long as the trace has them, scaled where they do not fit so that their 95 % quantile
    takes the budget, and cut to it; prompts are matched by rank of their length. Such answers are not graded"""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "type",
            ("batch", "closed"),
            required=("size",),
            excluded=("rate", "load_factor", "burstiness", "trace", "replay_output_lengths"),
        ),
        Rule("type", ("open",), required=("burstiness",), excluded=("size", "trace", "replay_output_lengths")),
        Rule("type", ("trace",), required=("trace",), excluded=("size", "burstiness")),
    )

    @classmethod
    def problem(cls, data: Mapping[Any, Any]) -> str | None:
        """Refuse open-loop loads without a rate, and with two."""
        problem = super().problem(data)
        if problem is None and data["type"] in ("open", "trace") and ("rate" in data) == ("load_factor" in data):
            return "give either rate (requests/s) or load_factor (a share of the capacity), not both"
        return problem


class Capacity(Section):
    """Where the capacity is measured that load factors are a share of."""

    experiment: Name = key(..., allowed="an experiment with a closed load of `max_running_requests` or more")
    """where it was measured, in bf16 with the baseline"""
    dataset: Name = key(..., allowed="one of its datasets")
    """with which questions"""


class Slo(Section):
    """What users are promised."""

    ttfvt_s: float = key(..., gt=0)
    """s from the scheduled arrival to the first visible token"""
    tpot_ms: float = key(..., gt=0)
    """ms a visible token after the first, a request's mean"""


Counts = Annotated[list[Count], Field(min_length=1, json_schema_extra={"uniqueItems": True}), Unique]


class Budgets(Section):
    """Token budgets, of which only some are measured."""

    measured: Counts = key(..., allowed="list of whole numbers below `context_length`")
    """budgets that requests are sent with: what a list in place of this mapping has"""
    derived: Counts = key(..., allowed="list of whole numbers below the largest measured one")
    """budgets whose answers are those under the smallest measured budget above, cut at so many tokens: they have
    accuracy, answered share and tokens, and no times. They cost nothing. Where a measured budget could be derived, it
    is, and both are compared (table `derived_budgets`)"""


ListOrBudgets = Annotated[
    Annotated[Counts, Tag("<list>")] | Annotated[Budgets, Tag("<mapping>")],
    Discriminator(lambda value: "<mapping>" if isinstance(value, Mapping | Budgets) else "<list>"),
]


class Experiment(Section):
    """A sweep over servers and points."""

    models: NamesOrAll = "all"
    """models that are measured; `all`: those that are no drafts"""
    engines: NamesOrAll = "all"
    """engines that they are served by"""
    quantizations: Names = key(["bf16"])
    """weight formats that they are served in"""
    setups: Names = key(["baseline"])
    """setups that they are served with"""
    datasets: NamesOrAll = "all"
    """what they are asked"""
    num_questions: Count = key(allowed="whole number, up to each dataset's", shown="all")
    """the first so many of each dataset"""
    starts: Count = 3
    """how often each server is started: times, rates and gauges differ from start to start, so their intervals come
    from these. With one there are none, and no verdict on a change. Of a server that already runs: its sessions, see
    [docs/measurement.md](../docs/measurement.md#servers-that-already-run)"""
    repeats: Count = 1
    """how often each question is asked in a start, with another seed each time"""
    sampling: ExperimentSampling = key(ExperimentSampling(), allowed="as `sampling` above")
    """how tokens are drawn in this experiment; with `temperature: 0` and several engines there is a table of how often
    they agree"""
    serving: Serving = key(Serving(), allowed="as `serving` above")
    """options of this experiment's servers"""
    budgets: ListOrBudgets = key(
        ..., allowed="list of whole numbers below `context_length`, or mapping of `measured` and `derived`"
    )
    """`max_tokens` of a request, thinking included; a list is measured whole"""
    optional: bool = False
    """whether the experiment is left out of the default target and of `results/points`, and made only when asked for by
    its name"""
    capacity: Capacity = key(shown="required for loads with a `load_factor`")
    """what they are a share of: requests/s that the slowest of the experiment's servers finishes when it is saturated,
    as another experiment measures it"""
    ttfvt_horizon_s: float = key(gt=0, shown="as far as every point knows it")
    """s up to which the mean TTFVT is taken, where some requests end without a visible token"""
    slo: Slo = key()
    """what users are promised: goodput is the share of requests that meet both"""
    loads: Annotated[list[Load], Field(json_schema_extra={"uniqueItems": True}), Unique] = key(
        ..., allowed="list of mappings", min_length=1
    )
    """how requests arrive"""


class Config(Section):
    """A whole config; config/README.md explains it."""

    study: Name = key(..., redone="nothing")
    """what the study is called, and its results: `results/` of another study is refused (how to keep two: the main
    README)"""
    seed: int = key(20251018, redone="everything", ge=0, le=2**31 - 1)
    """micro models and their questions, sampling of every request (same on all servers), the servers' own"""
    device: Literal["auto", "cpu", "cuda"] = key("auto", redone="all runs")
    """what the engines run on; `auto`: cuda where NVIDIA's management library sees a GPU. Name it where results are
    carried to a machine without one, and on a cluster"""
    engines: EnginesOrNames = key(
        ["vllm", "sglang"],
        allowed="list of `vllm`, `sglang`, or mapping: an engine a name",
        redone="runs of that engine",
    )
    """engines of the study; `all` in an experiment means these. Only their environments are built. In a mapping, below,
    they stand in this order: vLLM, SGLang, servers that already run by name"""
    on_unsupported: Literal["error", "mark"] = key("error", redone="nothing")
    """what an option means that an engine can't serve on this device: the dry run ends with a line, or the cell is left
    out and stands in the main table with its reason"""
    environments: Environments = key(Environments(), redone="nothing")
    """how environments are built, below"""
    max_run_minutes: int | None = key(None, allowed="null or a whole number from 30", redone="nothing", ge=30, le=MOST)
    """most that a cluster is asked to grant one run (`runtime`), as its queues allow it; a run that takes longer is
    ended and goes on after its last finished point, as often as it must. null: what `snakemake plan` says"""
    sampling: Sampling = key(Sampling(), redone="all runs")
    """how tokens are drawn, below"""
    serving: Serving = key(Serving(), redone="runs they reach")
    """serving options of all servers, below"""
    measurement: Measurement = key(Measurement(), redone="all runs")
    """how a run goes, below"""
    grading: Grading = key(Grading(), redone="grades and what follows")
    """how answers are graded, below"""
    analysis: Analysis = key(Analysis(), redone="comparisons")
    """how comparisons are judged, below"""
    claims: dict[Name, Claim] = key({}, allowed="mapping, a claim an id", redone="the claims")
    """claims of your own beside those of resources/claims.yaml, or in place of one of them, below"""
    compare_with: str | None = key(
        None, allowed="null or a folder, the `results` of another study", redone="the comparison of both studies"
    )
    """an older study that this one is set beside: which metrics and verdicts changed, and what differs in versions and
    machines ([docs/results.md](../docs/results.md#two-studies-side-by-side))"""
    local_paths: dict[HubId, Text] = key(
        {}, allowed="mapping, a path for each hub id", redone="nothing, if the files are the same"
    )
    """where models and datasets of the hub lie on this machine, below"""
    models: dict[Name, Model] = key(..., allowed="mapping, a model a name", redone="runs of that model", min_length=1)
    """what is served, below"""
    datasets: dict[Name, Dataset] = key(
        ..., allowed="mapping, a dataset a name", redone="runs that ask it", min_length=1
    )
    """what is asked, below"""
    quantizations: Quantizations = key(
        Quantizations.model_validate({}),
        allowed="mapping, a weight format a name",
        shown="`bf16`",
        redone="runs of that quantization",
    )
    """how weights are stored and computed with, below"""
    setups: Setups = key(
        Setups.model_validate({}), allowed="mapping, a setup a name", shown="`baseline`", redone="runs of that setup"
    )
    """named serving options, below"""
    traces: dict[Name, Trace] = key({}, allowed="mapping, a trace a name", redone="runs under that trace")
    """when requests came elsewhere, below"""
    experiments: dict[Name, Experiment] = key(
        ..., allowed="mapping, an experiment a name", redone="runs of that experiment", min_length=1
    )
    """the questions of the study, below"""


def complete_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a user's config with all defaults filled in, keys in alphabetical order whatever theirs was.

    Raises:
        ConfigError: one line for the most telling mistake.
    """
    try:
        completed: dict[str, Any] = canonical_json(Config.model_validate(config).model_dump())
        return completed
    except ValidationError as error:
        raise first_error(error, Config) from None
