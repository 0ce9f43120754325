"""Measure one run: start its server, send its points, write what was seen."""

from pathlib import Path

from rllm_serving import environments
from rllm_serving.logs import logged
from rllm_serving.measurement.endpoint import EndpointMeasurement
from rllm_serving.measurement.paths import RunPaths
from rllm_serving.measurement.run import Measurement
from rllm_serving.serving.gpus import check_granted
from rllm_serving.study.design import Run, expand_sweep

run = Run.from_dict(snakemake.params.run, expand_sweep(snakemake.params.sweep, snakemake.params.run["start"]))
names = sorted(snakemake.params.sweep["datasets"])
# A server that already runs needs neither.
environment = Path(*snakemake.input.environment) if snakemake.input.environment else None
paths = RunPaths(
    python=None if environment is None else environments.python(environment.parent),
    environment=environment,
    model=Path(*snakemake.input.model) if snakemake.input.model else None,
    draft=Path(*snakemake.input.draft) if snakemake.input.draft else None,
    arrivals=Path(*snakemake.input.arrivals) if snakemake.input.arrivals else None,
    datasets=dict(zip(names, map(Path, snakemake.input.datasets), strict=True)),
    templates=dict(zip(names, map(Path, snakemake.input.templates), strict=True)),
    requests=Path(snakemake.output.requests),
    server=Path(snakemake.output.server),
    record=Path(snakemake.output.record),
    server_log=Path(snakemake.log.server),
    forced=Path("results/runs/forced"),
)
with logged(snakemake.log.run):
    check_granted(run.folder, run.gpus(snakemake.params.device), snakemake.resources.get("gpu", 0))
    device = snakemake.params.device
    if run.endpoint is None:
        measurement = Measurement(run, paths, device)
    else:
        measurement = EndpointMeasurement(run, paths, device, snakemake.config["study"])
    measurement.execute()
