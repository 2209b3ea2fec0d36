"""A SLURM of one node and two CPUs that the tests start and stop: Debian's slurm-wlm and munge."""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.tiny import REPOSITORY, environment

_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "setpriv")
_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"

# No database, no cgroups, no MPI. Processes find each other by the name of their node. A job that
# is queued again waits until its old credentials expire, by default for two minutes.
_SETTINGS = """
ClusterName=tests
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
GresTypes=gpu
KillWait=60
ReturnToService=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmdParameters=config_overrides
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1
NodeName=localhost NodeHostname={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=tests Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@dataclass(frozen=True)
class Slurm:
    """Attributes: ``environment``, in which SLURM's commands and ours are found."""

    environment: dict[str, str]

    def call(self, *words: str, cwd: Path | None = None) -> str:
        """What a command of SLURM prints, which must succeed."""
        done = subprocess.run(
            words, env=self.environment, cwd=cwd, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def submit(self, script: str, *words: str, options: Sequence[str], cwd: Path) -> str:
        """Put a script of ``scripts/slurm`` into the queue; returns the number of its job."""
        path = str(REPOSITORY / "scripts" / "slurm" / script)
        return self.call("sbatch", "--parsable", *options, path, *words, cwd=cwd)

    def job(self, number: str) -> dict[str, str]:
        """What SLURM says of a job, such as its ``JobState``."""
        shown = self.call("scontrol", "show", "job", "--oneliner", number)
        return dict(field.partition("=")[::2] for field in shown.split())

    def wait_for(self, number: str, state: str, seconds: float = 200) -> None:
        """Wait until a job is in a state; fails where it ends in another."""
        end = time.monotonic() + seconds
        while (found := self.job(number))["JobState"] != state:
            assert time.monotonic() < end, found
            assert found["JobState"] not in ("CANCELLED", "TIMEOUT", "NODE_FAIL"), found
            time.sleep(0.2)


@contextmanager
def running_slurm(folder: Path) -> Iterator[Slurm]:
    """Start SLURM with its files in a folder; everything ends with the body.

    The test is skipped where it is not installed.
    """
    missing = [name for name in _PROGRAMS if shutil.which(name, path=_PATH) is None]
    if missing:
        pytest.skip(f"SLURM is not installed ({', '.join(missing)}): apt install slurm-wlm munge")
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "munge.key").touch(0o600)
    (folder / "munge.key").write_bytes(secrets.token_bytes(128))
    controller, node = _free_ports(2)
    settings = _SETTINGS.format(
        folder=folder,
        controller=controller,
        node=node,
        user=getpass.getuser(),
        host=socket.gethostname().partition(".")[0],
    )
    (folder / "slurm.conf").write_text(settings)
    # The console scripts beside this Python are what a job starts.
    path = f"{Path(sys.executable).parent}:{_PATH}"
    slurm = Slurm(environment(PATH=path, SLURM_CONF=str(folder / "slurm.conf")))
    places = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "seed", "log")]
    places.append(f"--socket={folder}/munge.socket")
    with ExitStack() as stack:
        _start(stack, slurm, folder, "munged", "-F", "--force", *places)
        _until((folder / "munge.socket").exists, folder)
        _start(stack, slurm, folder, "slurmctld", "-D", "-i")
        _start(stack, slurm, folder, "slurmd", "-D", "-N", "localhost")
        stack.callback(_end_jobs, slurm, folder)
        _until(lambda: _answer(slurm, "sinfo", "-h", "-o", "%T") == "idle", folder)
        yield slurm


def _free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _start(stack: ExitStack, slurm: Slurm, folder: Path, *words: str) -> None:
    # It also ends with tests that are killed.
    command = ["setpriv", "--pdeathsig", "TERM", *words]
    with (folder / f"{words[0]}.log").open("wb") as log:
        process = subprocess.Popen(command, env=slurm.environment, stdout=log, stderr=log)
    stack.callback(process.wait, 60)
    stack.callback(process.terminate)


def _answer(slurm: Slurm, *words: str) -> str:
    done = subprocess.run(words, env=slurm.environment, capture_output=True, text=True, timeout=60)
    return done.stdout.strip()


def _until(reached: Callable[[], bool], folder: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not reached():
        logs = "\n".join(path.read_text() for path in folder.glob("*.log"))
        assert time.monotonic() < end, f"SLURM does not get there:\n{logs}"
        time.sleep(0.1)


def _end_jobs(slurm: Slurm, folder: Path) -> None:
    _answer(slurm, "scancel", "--user", getpass.getuser())
    _until(lambda: _answer(slurm, "squeue", "-h") == "", folder, seconds=120)
