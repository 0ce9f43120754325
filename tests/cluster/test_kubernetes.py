"""What the Kubernetes profile makes of the workflow's jobs, without a cluster: manifests, and their commands run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from cluster.cases import GRADES, RUNS, lay
from conftest import ROOT, run

NEEDED = ("snakemake_executor_plugin_kubernetes", "snakemake_storage_plugin_fs", "kubernetes_validate")
for module in NEEDED:
    pytest.importorskip(module, reason=f"no {module}: `uv run --group cluster pytest`")

import kubernetes_validate  # noqa: E402

PROFILE = yaml.safe_load((ROOT / "profiles/kubernetes/config.yaml").read_text())
VOLUME = "/study"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout on what stands for the shared volume, with the stand-in engine where a pod would have built it."""
    folder = tmp_path_factory.mktemp("volume") / "checkout"
    lay(folder, environments=folder / ".snakemake/storage/fs" / str(folder).lstrip("/") / "resources/environments")
    for command in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def pods(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the manifests and logs of all pods that the run on two GPUs took."""
    folder = tmp_path_factory.mktemp("pods")
    image = folder / "bin"
    image.mkdir()
    # The plugins are there already, and a test fetches nothing.
    programs = {"python": f'exec {sys.executable} "$@"', "pip": ":"}
    if shutil.which("rsync") is None:
        # What `rsync OPTIONS FROM TO` does to a file.
        programs["rsync"] = 'for word; do from=$to; to=$word; done; exec cp -a "$from" "$to"'
    for name, does in programs.items():
        (image / name).write_text(f"#!/bin/sh\n{does}\n")
        (image / name).chmod(0o755)
    places = {key: str(value).replace(VOLUME, str(checkout)) for key, value in PROFILE.items() if VOLUME in str(value)}
    options = [word for key, value in places.items() for word in (f"--{key}", value)]
    options += ["--container-image", "rllm-serving", "--seconds-between-status-checks", "1"]
    arguments = ["--configfile", "study.yaml", "--profile", "profiles/kubernetes", *options]
    ended = run(
        [sys.executable, str(ROOT / "tests/cluster/pods.py"), str(folder), *arguments, GRADES["two"]],
        cwd=checkout,
        env=os.environ | {"PATH": f"{image}:{os.environ['PATH']}"},
    )
    logs = "\n".join(file.read_text() for file in folder.glob("*.log"))
    assert ended.returncode == 0, ended.stdout + logs
    return folder


def manifests(pods: Path) -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in pods.glob("snakejob-*.json")]


def test_every_manifest_is_one_that_kubernetes_takes(pods: Path) -> None:
    found = manifests(pods)
    assert len(found) == 6
    for manifest in found:
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_a_pod_is_limited_to_the_gpus_that_its_job_asks_for(pods: Path) -> None:
    resources = [m["spec"]["template"]["spec"]["containers"][0]["resources"] for m in manifests(pods)]
    gpus = [(given["limits"].get("nvidia.com/gpu"), given["requests"].get("nvidia.com/gpu")) for given in resources]
    # Kubernetes refuses requests for GPUs without the same limit.
    assert sorted(gpus, key=str) == [("2", "2"), *[(None, None)] * 5]


def test_pods_share_the_volume_that_the_profile_names(pods: Path, checkout: Path) -> None:
    for manifest in manifests(pods):
        spec = manifest["spec"]["template"]["spec"]
        claims = {v["name"]: v["persistentVolumeClaim"]["claimName"] for v in spec["volumes"] if "emptyDir" not in v}
        assert claims == {"rllm-serving": "rllm-serving"}
        assert {"name": "rllm-serving", "mountPath": str(checkout)} in spec["containers"][0]["volumeMounts"]
        assert spec["containers"][0]["image"] == "rllm-serving"


def test_pods_that_share_only_the_volume_measure_and_grade(pods: Path, checkout: Path) -> None:
    files = (f"{RUNS['two']}/requests.parquet", GRADES["two"])
    requests, grades = (pd.read_parquet(checkout / file) for file in files)
    assert len(requests) == len(grades) == 6 and (requests.status == "ok").all()
    assert not [folder for folder in pods.glob("snakejob-*") if folder.is_dir()]
