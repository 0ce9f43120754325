# Open-loop loads: one schedule, the same for all servers that are compared.
rule schedule_arrivals:
    """Write when each request of an experiment's open-loop loads is to be sent."""
    input:
        datasets=run_datasets,
        capacity=lambda wildcards: [
            f"results/runs/{run.folder}/requests.parquet" for _, run in capacity_runs(wildcards)
        ],
        traces=lambda wildcards: [
            str(Path(spec["path"]).expanduser()) for spec in STUDY.traces(wildcards.experiment).values()
        ],
    output:
        arrivals="results/arrivals/{experiment}.parquet",
        record="results/arrivals/{experiment}.json",
    log:
        "logs/schedule_arrivals/{experiment}.log",
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        code=code("schedule_arrivals.py"),
        datasets=run_dataset_names,
        servers=lambda wildcards: [server for server, _ in capacity_runs(wildcards)],
        max_running_requests=lambda wildcards: max(
            (run.options.max_running_requests for _, run in capacity_runs(wildcards)), default=0
        ),
        starts=lambda wildcards: STUDY.starts(wildcards.experiment),
        capacity=lambda wildcards: config["experiments"][wildcards.experiment].get("capacity"),
        sweep=experiment_sweep,
        sources=lambda wildcards: STUDY.traces(wildcards.experiment),
        seed=config["seed"],
    script:
        "../scripts/schedule_arrivals.py"


# A run: one experiment on one start of one server, for all points of that start. The heart of the study.
# It has no `benchmark:`, which looks through the memory of the server while it is measured; run.json has its durations.
rule measure:
    """Start one server once and measure the points of that start of one experiment on it."""
    input:
        unpack(run_inputs),
    output:
        # Not removed before a rerun: a run that grew measures only its new points (see rllm_serving/measurement/).
        requests=update(f"{RUN}/requests.parquet"),
        server=update(f"{RUN}/server.parquet"),
        record=update(f"{RUN}/run.json"),
    log:
        run="logs/runs/{experiment}/{engine}/{model}/{quantization}/{setup}/{start}.log",
        server="logs/servers/{experiment}/{engine}/{model}/{quantization}/{setup}/{start}.log",
    # Start 1 of every server before any start 2.
    priority: lambda wildcards: STUDY.priorities[run_of(wildcards).folder]
    # A run that was ended at max_run_minutes goes on after its last point. Else as often as --retries says.
    retries: JOB_TIMES.retries()
    conda:
        "../envs/workflow.yaml"
    # Without a GPU, server and client have the machine to themselves; with GPUs, runs share it by their GPUs: four
    # cores for client, sampler, API server and scheduler, four for each GPU's own process.
    threads: lambda wildcards: workflow.cores if DEVICE == "cpu" else 4 + 4 * run_of(wildcards).gpus(DEVICE)
    resources:
        gpu=lambda wildcards: run_of(wildcards).gpus(DEVICE),
        # All of a server's GPUs in one machine: a cluster would take them wherever some are free.
        nodes=1,
        mem_mb=lambda wildcards, attempt: PLAN.memory_mb(run_of(wildcards)) * min(attempt, 2),
        runtime=lambda wildcards, attempt: JOB_TIMES.run_minutes(run_of(wildcards), attempt),
    params:
        code=code("measure.py"),
        run=lambda wildcards: run_of(wildcards).to_dict(),
        sweep=experiment_sweep,
        device=DEVICE,
    script:
        "../scripts/measure.py"
