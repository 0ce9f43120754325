"""A real Slurm on this machine: munge, slurmctld and slurmd in a folder, one node, two GPUs that are ordinary files."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Self

import psutil
from helpers.mock_server import eventually
from rllm_serving.serving.server import free_port

INSTALL = "apt-get install slurm-wlm munge"
PROGRAMS = ("munged", "mungekey", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "sinfo", "scontrol", "scancel")
# Told more processors and memory than it has, so that what a study asks for on real nodes fits. A job goes back to the
# queue for cred_expire seconds when its node fails.
CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
AuthInfo=socket={folder}/munge.socket,cred_expire=5
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
AccountingStorageType=accounting_storage/none
GresTypes=gpu
KillWait=5
MailProg=/bin/true
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=16 RealMemory=2000000 Gres=gpu:2
PartitionName=test Nodes=ALL Default=YES
"""


def missing() -> str | None:
    """Why there can be no Slurm here, or None."""
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent or os.geteuid():
        return f"no {', '.join(absent) or 'root'}: a Slurm of one's own needs `{INSTALL}`, and root"
    return None


class Slurm:
    """A cluster of one node that is there while the context is open.

    environment: variables under which Slurm's commands find it.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))
        self.node = socket.gethostname().partition(".")[0]
        self.environment = os.environ | {
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "PATH": f"{self.folder}/bin:{os.environ['PATH']}",
        }
        self._daemons: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        folder = self.folder
        folder.chmod(0o755)  # munge wants a socket that everybody could reach
        for name in ("state", "spool", "bin"):
            (folder / name).mkdir()
        # Within a job the plugin calls srun without this variable: a cluster has its slurm.conf where srun looks.
        srun = folder / "bin/srun"
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {shutil.which("srun")} "$@"\n')
        srun.chmod(0o755)
        for name in ("gpu0", "gpu1"):
            (folder / name).touch()
        ports = free_port(), free_port()
        (folder / "slurm.conf").write_text(CONFIG.format(host=self.node, folder=folder, ports=ports))
        (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-1]\n")
        subprocess.run(["mungekey", "--create", f"--keyfile={folder}/munge.key"], check=True)
        munge = [f"--{option}-file={folder}/munge.{option}" for option in ("key", "log", "pid", "seed")]
        try:
            self._start("munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *munge)
            self._start("slurmctld", "-D")
            self._start("slurmd", "-D")
            ready = eventually(lambda: "idle" in self.call("sinfo", "--noheader", "--format=%T", check=False), 60)
            assert ready, self.logs()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.call("scancel", f"--nodelist={self.node}", check=False)
        eventually(lambda: not self.call("squeue", "--noheader", check=False), 30)
        for daemon in reversed(self._daemons):
            daemon.terminate()
            daemon.wait(30)
        # What waits for this cluster for ever: the workflow of a failed test, a job's Snakemake that its node left.
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("SLURM_CONF") == self.environment["SLURM_CONF"]:
                    process.kill()
        shutil.rmtree(self.folder)

    def _start(self, program: str, *arguments: str) -> None:
        with (self.folder / f"{program}.out").open("wb") as log:
            command = [shutil.which(program) or program, *arguments]
            self._daemons.append(subprocess.Popen(command, stdout=log, stderr=log, env=self.environment))

    def logs(self) -> str:
        """What the daemons said."""
        return "\n".join(file.read_text() for file in self.folder.glob("*.out"))

    def call(self, *command: str, check: bool = True) -> str:
        """What a command of Slurm says, both outputs as one text."""
        ended = subprocess.run(
            command, env=self.environment, check=check, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        return ended.stdout

    def jobs(self) -> dict[str, dict[str, str]]:
        """Every job that Slurm remembers (for five minutes), by its number; `Comment` names the rule."""
        lines = self.call("scontrol", "show", "job", "--oneliner").splitlines()
        jobs = (dict(word.split("=", 1) for word in line.split() if "=" in word) for line in lines)
        return {job["JobId"]: job for job in jobs if "JobId" in job}

    def set_node(self, state: str) -> None:
        """Take the node down, or `resume` it."""
        self.call("scontrol", "update", f"nodename={self.node}", f"state={state}", "reason=test")
