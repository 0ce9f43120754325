"""The config: its keys with type, default and meaning, of which the schema and the tables of config/README.md are made.

Its completed form is a plain dictionary with all defaults; a key without a default is there only when it was given.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationError

from .config_base import ABSENT, Count, HubId, Name, Names, NamesOrAll, Rule, Section, Text, Unique, key
from .config_errors import first_error
from .config_inputs import Dataset, Model, Quantizations, Trace
from .config_options import Environments, ExperimentSampling, Grading, Measurement, Sampling, Serving


class Setups(Section, extra="allow"):
    """Serving options by name."""

    baseline: Serving = key(
        Serving(), "the study's and the model's options alone; always there", allowed="as `serving` above"
    )
    __pydantic_extra__: dict[Name, Serving]
    entry: ClassVar[type[Section]] = Serving


class Load(Section):
    """How requests arrive."""

    type: Literal["batch", "closed", "open", "trace"] = key(
        ...,
        "`batch`: so many at once, wait for all, then the next; `closed`: always so many in flight; `open`: at times "
        "drawn with Gamma-distributed gaps; `trace`: at those of a trace. The latter two are open-loop: they send on "
        "schedule whatever the server does, and waiting counts from the schedule",
    )
    size: Count = key(ABSENT, "batch size, or requests in flight", allowed="whole number, up to the questions asked")
    rate: float = key(ABSENT, "requests/s", shown="this or `load_factor` for open and trace", gt=0)
    load_factor: float = key(
        ABSENT,
        "share of `capacity`: the same load for the machine, whatever the machine",
        shown="this or `rate` for open and trace",
        gt=0,
    )
    burstiness: float = key(
        ABSENT,
        "shape of the Gamma distribution: 1 is Poisson, smaller is burstier (coefficient of variation: "
        "burstiness^-1/2)",
        gt=0,
    )
    trace: Name = key(ABSENT, "the trace, rescaled to the rate", allowed="a name of `traces`")
    replay_output_lengths: bool = key(
        ABSENT,
        "whether answers are made as long as the trace has them, scaled so that its longest takes the budget; prompts "
        "are matched by rank of their length. Such answers are not graded",
        shown="false",
    )

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "type",
            ("batch", "closed"),
            required=("size",),
            excluded=("rate", "load_factor", "burstiness", "trace", "replay_output_lengths"),
            hint="types batch and closed need size, the requests at once",
        ),
        Rule(
            "type",
            ("open",),
            required=("burstiness",),
            excluded=("size", "trace", "replay_output_lengths"),
            hint="type open needs burstiness, the shape of the Gamma distribution of the gaps; 1 is Poisson",
        ),
        Rule(
            "type",
            ("trace",),
            required=("trace",),
            excluded=("size", "burstiness"),
            hint="type trace needs trace, a name of the section traces",
        ),
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

    experiment: Name = key(
        ..., "where it was measured, in bf16 with the baseline", allowed="an experiment with batch loads"
    )
    dataset: Name = key(..., "with which questions", allowed="one of its datasets")


class Slo(Section):
    """What users are promised."""

    ttfvt_s: float = key(..., "s from the scheduled arrival to the first visible token", gt=0)
    tpot_ms: float = key(..., "ms a token, a request's mean", gt=0)


class Experiment(Section):
    """A sweep over servers and points."""

    models: NamesOrAll = key("all", "models that are measured; `all`: those that are no drafts")
    engines: NamesOrAll = key("all", "engines that they are served by")
    quantizations: Names = key(["bf16"], "weight formats that they are served in")
    setups: Names = key(["baseline"], "setups that they are served with")
    datasets: NamesOrAll = key("all", "what they are asked")
    num_questions: Count = key(
        ABSENT, "the first so many of each dataset", allowed="whole number, up to each dataset's", shown="all"
    )
    repeats: Count = key(3, "how often each question is asked, with another seed each time")
    sampling: ExperimentSampling = key(
        ExperimentSampling(),
        "how tokens are drawn in this experiment; with `temperature: 0` and several engines there is a table of how "
        "often they agree",
        allowed="as `sampling` above",
    )
    serving: Serving = key(Serving(), "options of this experiment's servers", allowed="as `serving` above")
    budgets: Annotated[list[Count], Field(json_schema_extra={"uniqueItems": True}), Unique] = key(
        ...,
        "`max_tokens` of a request, thinking included",
        allowed="list of whole numbers below `context_length`",
        min_length=1,
    )
    optional: bool = key(
        False,
        "whether the experiment is left out of the default target and of `results/points`, and made only when asked "
        "for by its name",
    )
    capacity: Capacity = key(
        ABSENT,
        "what they are a share of: requests/s that the slowest of the experiment's servers finished in the largest "
        "batches of another experiment",
        shown="required for loads with a `load_factor`",
    )
    slo: Slo = key(ABSENT, "what users are promised: goodput is the share of requests that meet both")
    loads: Annotated[list[Load], Field(json_schema_extra={"uniqueItems": True}), Unique] = key(
        ..., "how requests arrive", allowed="list of mappings", min_length=1
    )


class Config(Section):
    """A whole config; config/README.md explains it."""

    study: Name = key(..., "what the study is called", redone="nothing")
    seed: int = key(
        20251018,
        "micro models and their questions, sampling of every request (same on all servers), the servers' own",
        redone="everything",
        ge=0,
    )
    device: Literal["auto", "cpu", "cuda"] = key(
        "auto",
        "what the engines run on; `auto`: cuda where NVIDIA's management library sees a GPU. Name it where results are "
        "carried to a machine without one, and on a cluster",
        redone="all runs",
    )
    engines: Names = key(
        ["vllm", "sglang"],
        "engines of the study; `all` in an experiment means these. Only their environments are built",
        allowed="list of `vllm`, `sglang`",
        redone="runs of engines added",
    )
    on_unsupported: Literal["error", "mark"] = key(
        "error",
        "what an option means that an engine can't serve on this device: the dry run ends with a line, or the cell is "
        "left out and stands in the main table with its reason",
        redone="nothing",
    )
    environments: Environments = key(Environments(), "how environments are built, below", redone="nothing")
    sampling: Sampling = key(Sampling(), "how tokens are drawn, below", redone="all runs")
    serving: Serving = key(Serving(), "serving options of all servers, below", redone="runs they reach")
    measurement: Measurement = key(Measurement(), "how a run goes, below", redone="all runs")
    grading: Grading = key(Grading(), "how answers are graded, below", redone="grades and what follows")
    local_paths: dict[HubId, Text] = key(
        {},
        "where models and datasets of the hub lie on this machine, below",
        allowed="mapping, a path for each hub id",
        redone="nothing, if the files are the same",
    )
    models: dict[Name, Model] = key(
        ..., "what is served, below", allowed="mapping, a model a name", redone="runs of that model", min_length=1
    )
    datasets: dict[Name, Dataset] = key(
        ..., "what is asked, below", allowed="mapping, a dataset a name", redone="runs that ask it", min_length=1
    )
    quantizations: Quantizations = key(
        Quantizations.model_validate({}),
        "how weights are stored and computed with, below",
        allowed="mapping, a weight format a name",
        shown="`bf16`",
        redone="runs of that quantization",
    )
    setups: Setups = key(
        Setups.model_validate({}),
        "named serving options, below",
        allowed="mapping, a setup a name",
        shown="`baseline`",
        redone="runs of that setup",
    )
    traces: dict[Name, Trace] = key(
        {},
        "when requests came elsewhere, below",
        allowed="mapping, a trace a name",
        redone="runs under that trace",
    )
    experiments: dict[Name, Experiment] = key(
        ...,
        "the questions of the study, below",
        allowed="mapping, an experiment a name",
        redone="runs of that experiment",
        min_length=1,
    )


def complete_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a user's config with all defaults filled in.

    Raises:
        ConfigError: one line for the most telling mistake.
    """
    try:
        return Config.model_validate(config).model_dump()
    except ValidationError as error:
        raise first_error(error, Config) from None


def config_paths(config: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
    """Yield every local path that a completed config names, with its key."""
    for section in ("models", "datasets"):
        for name, entry in config[section].items():
            if entry["source"] == "path":
                yield f"{section}.{name}.path", Path(entry["path"]).expanduser()
    for name, path in config["local_paths"].items():
        yield f"local_paths.{name}", Path(path).expanduser()
    for name, entry in config["traces"].items():
        yield f"traces.{name}.path", Path(entry["path"]).expanduser()
    for name, entry in config["quantizations"].items():
        for model, checkpoint in entry.get("checkpoints", {}).items():
            if "path" in checkpoint:
                yield f"quantizations.{name}.checkpoints.{model}.path", Path(checkpoint["path"]).expanduser()
