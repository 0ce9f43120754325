"""Write when the requests of an experiment arrive, and what that was made with."""

import json
from pathlib import Path

import pyarrow.parquet as pq
from rllm_serving.load import arrivals
from rllm_serving.load.capacity import measured_capacity
from rllm_serving.logs import logged
from rllm_serving.study.design import expand_sweep

with logged(snakemake.log[0]) as log:
    asked, given = snakemake.params, snakemake.input
    texts = {
        name: pq.read_table(path)["question"].to_pylist()
        for name, path in zip(asked.datasets, given.datasets, strict=True)
    }
    runs: dict[str, list[Path]] = {}
    for server, path in zip(asked.servers, given.capacity, strict=True):
        runs.setdefault(server, []).append(Path(path))
    rates = measured_capacity(runs, asked.capacity["dataset"], asked.max_running_requests) if runs else {}
    points = [point for start in range(1, asked.starts + 1) for point in expand_sweep(asked.sweep, start)]
    table, made = arrivals.schedule_arrivals(points, texts, asked.sources, rates, asked.seed)
    pq.write_table(table, snakemake.output.arrivals)
    record = {"capacity": asked.capacity, "requests_per_s": rates, "sources": asked.sources, "points": made}
    Path(snakemake.output.record).write_text(json.dumps(record, indent=1))
    for point in made:
        if "length_factor" in point:
            log.info(
                "%(dataset)s, %(load)s, budget %(budget)d, repeat %(repeat)d: lengths x %(length_factor).3g; "
                "%(at_one)d answers have 1 token, %(at_budget)d the budget",
                point,
            )
    log.info("%d arrivals of %d points; capacities (requests/s): %s", table.num_rows, len(made), rates)
