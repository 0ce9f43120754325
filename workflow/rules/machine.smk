# The first job where a study runs on GPUs: everything that fetches, builds or serves waits for it.


rule check_machine:
    """Check driver, GPUs, disk, compiler and access to gated models, before anything is fetched."""
    output:
        MACHINE,
    log:
        "logs/check_machine.log",
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        # Where the servers will run: a cluster sends it to a machine with as many GPUs as the largest of them.
        gpu=lambda wildcards: machine_needs()["gpus"] if serves_here() else 0,
        nodes=1,
        mem_mb=2000,
        runtime=30,
    params:
        # Nothing that may change: where Snakemake checks anew, it plans no job behind it in that call.
        prompts=PROMPTS,
        locks=ENVS,
        device=DEVICE,
    script:
        "../scripts/check_machine.py"
