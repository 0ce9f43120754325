"""Snakemake with a Kubernetes of its own: a pod is a process of its container's command, in an empty working directory.

`python pods.py FOLDER SNAKEMAKE-ARGUMENTS`: each job's manifest goes to FOLDER/NAME.json, what it says to
FOLDER/NAME.log, and its working directory is FOLDER/NAME, which goes when it ends. Nothing of Kubernetes itself is
there: no image, no volume, no scheduler.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import kubernetes
from snakemake.cli import main

FOLDER = Path(sys.argv[1])


class Api:
    """The calls of the executor's plugin, answered as Kubernetes would."""

    pods: dict[str, subprocess.Popen[bytes]] = {}  # noqa: RUF012

    def create_namespaced_job(self, namespace: str, body: Any) -> None:
        name = str(body.metadata.name)
        manifest = kubernetes.client.ApiClient().sanitize_for_serialization(body)
        (FOLDER / f"{name}.json").write_text(json.dumps({"apiVersion": "batch/v1", "kind": "Job"} | manifest))
        (FOLDER / name).mkdir()
        [container] = body.spec.template.spec.containers
        # Of this process only what an image has: no working directory on any path.
        variables = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]}
        with (FOLDER / f"{name}.log").open("wb") as log:
            self.pods[name] = subprocess.Popen(
                [*container.command, *container.args], cwd=FOLDER / name, env=variables, stdout=log, stderr=log
            )

    def read_namespaced_job_status(self, name: str, namespace: str) -> Any:
        code = self.pods[name].poll()
        if code is not None:
            shutil.rmtree(FOLDER / name, ignore_errors=True)
        return SimpleNamespace(status=SimpleNamespace(succeeded=int(code == 0), failed=int(bool(code))))

    def list_namespaced_pod(self, **_: object) -> Any:
        return SimpleNamespace(items=[])

    def __getattr__(self, name: str) -> Any:
        """Secrets are made, jobs deleted: nothing to do."""
        return lambda *_, **__: None


kubernetes.config.load_kube_config = lambda *_, **__: None
kubernetes.client.CoreV1Api = kubernetes.client.BatchV1Api = Api
main(sys.argv[2:])
