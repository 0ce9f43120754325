"""Build an engine's environment from its lock and prove that it imports and compiles."""

from pathlib import Path

from rllm_serving.environments import build
from rllm_serving.logs import logged

record = Path(snakemake.output[0])
with logged(snakemake.log[0]) as log:
    log.info("building %s from %s", record.parent, snakemake.input.lock)
    built = build(
        Path(snakemake.input.lock),
        record.parent,
        snakemake.params.imports,
        # Not a parameter: where the same wheels come from differs between machines and changes no result.
        snakemake.config["environments"]["torch_cpu_wheels"],
        Path(snakemake.log[0]).with_suffix(".uv.log"),
        snakemake.params.compiles,
    )
    log.info(
        "%s %s, %d packages, %.0f s", built["lock"], built["engine_version"], len(built["packages"]), built["seconds"]
    )
