"""Trainings whose processes torchrun and SLURM start: they are stopped, killed, and resumed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.slurm import Slurm
from tests.tiny import (
    REPOSITORY,
    command,
    environment,
    metrics,
    only_run,
    record,
    tiny_options,
)
from video_snl.runs.features import FeatureTable, read_features

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

EPOCHS = 12
# Processes of a SLURM job find each other by their node's name, torchrun's by --standalone.
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
TASKS = ("--ntasks-per-node", "2")


def options(root: Path, output: Path, epochs: int = EPOCHS) -> list[str]:
    return tiny_options(root, output, optimizer__epochs=epochs)


def torchrun(*words: str) -> subprocess.Popen[str]:
    """``video-snl`` in two processes on this machine."""
    command = [*TORCHRUN, "-m", "video_snl", *words, "--trainer.devices", "2"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment())


@pytest.fixture(scope="module")
def unbroken(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of two processes that nothing happened to."""
    output = tmp_path_factory.mktemp("unbroken")
    process = torchrun("train", *options(root, output))
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 0, said
    assert "srun" not in said  # Lightning's advice where SLURM is installed
    return only_run(output)


def assert_same_weights(run: Path, expected: Path) -> None:
    """Runs have the same history and, bit for bit, the same network."""
    assert metrics(run) == metrics(expected)
    ours, wanted = (
        torch.load(each / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for each in (run, expected)
    )
    assert ours.keys() == wanted.keys() and len(wanted) > 100
    assert [name for name, tensor in wanted.items() if not torch.equal(ours[name], tensor)] == []


def process_of(word: Path, *variables: str) -> int:
    """The process that was given this word to train, in this environment."""
    wanted = {variable.encode() for variable in variables}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().split(b"\0")
            environ = (place / "environ").read_bytes().split(b"\0")
        except OSError:  # it has ended
            continue
        if {b"train", os.fsencode(word)} <= set(words) and wanted <= set(environ):
            return int(place.name)
    raise AssertionError(f"no process has {variables} and trains with {word}")


@pytest.mark.parametrize("rank", [0, 1])
def test_killed_under_torchrun_it_resumes_to_the_same_weights(
    rank: int, root: Path, unbroken: Path, tmp_path: Path
) -> None:
    process = torchrun("train", *options(root, tmp_path))
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith("epoch 2/"):
            os.kill(process_of(tmp_path, f"RANK={rank}"), signal.SIGKILL)
    # torchrun ends with the last of its processes.
    assert process.wait(60) != 0, "".join(said)
    ours = [line for line in said if line.startswith("video-snl train: error: another process")]
    assert len(ours) == 1 and "goes on from the last finished epoch." in ours[0], "".join(said)
    assert not any(line.startswith(f"[rank{1 - rank}]") for line in said), "".join(said)
    run = only_run(tmp_path)
    assert 2 <= len(metrics(run)) < EPOCHS
    # The first process, where it is killed, cannot write what it was killed by.
    assert record(run)["status"] == ("running" if rank == 0 else "failed")
    again = torchrun("train", "--resume", str(run))
    said_again = again.communicate(timeout=300)[1]
    assert again.returncode == 0, said_again
    assert record(run)["status"] == "finished"
    assert_same_weights(run, unbroken)


@pytest.mark.parametrize("launched", ["torchrun", "a first process", "one of the others"])
def test_all_processes_end_in_order_by_one_signal(
    launched: str, root: Path, tmp_path: Path
) -> None:
    """SIGTERM goes to both processes by torchrun, and else to one of them."""
    words = ["train", *options(root, tmp_path, epochs=200)]
    process = torchrun(*words) if launched != "a first process" else two_devices(*words)
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith("epoch 2/"):
            other = launched == "one of the others"
            target = process_of(tmp_path, "RANK=1") if other else process.pid
            os.kill(target, signal.SIGTERM)
    # Where they waited for each other, torchrun would kill them after 30 seconds.
    assert process.wait(60) == (143 if launched == "a first process" else 1), "".join(said)
    assert any(line.startswith("interrupted after ") for line in said), "".join(said)
    assert record(only_run(tmp_path))["status"] == "interrupted"


VALIDATING = """
import os, signal, sys
import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader
from video_snl.engine.trainer import StopTogether

rank, killed = int(os.environ["RANK"]), sys.argv[1]


class Task(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.steps = 0

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

    def training_step(self, batch, number):
        return self.layer(batch).sum()

    def validation_step(self, batch, number):
        self.steps += 1
        if killed == str(rank) and self.current_epoch == 1 and number == 2:
            os.kill(os.getpid(), signal.SIGTERM)


task = Task()
trainer = pl.Trainer(
    devices=2, accelerator="cpu", max_epochs=3, callbacks=[StopTogether()], logger=False,
    enable_checkpointing=False, enable_progress_bar=False, num_sanity_val_steps=0,
    use_distributed_sampler=False, default_root_dir=sys.argv[2],
)
try:
    trainer.fit(task, DataLoader(torch.ones(2, 1)), DataLoader(torch.ones(40 + rank, 1)))
except BaseException as error:
    print(f"rank {rank}: {type(error).__name__} at {task.steps}\\n", end="", flush=True)
else:
    print(f"rank {rank}: finished at {task.steps}\\n", end="", flush=True)
"""


@pytest.mark.parametrize("killed", ["1", "none"])
def test_a_validation_ends_in_order_too(killed: str, tmp_path: Path) -> None:
    """The processes have 40 and 41 steps of each validation."""
    (tmp_path / "train.py").write_text(VALIDATING)
    words = [*TORCHRUN, str(tmp_path / "train.py"), killed, str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, env=environment(), timeout=200)
    said = sorted(line for line in done.stdout.splitlines() if line.startswith("rank "))
    # The answer to the question that the fourth step of the second validation asks stops the fifth.
    ends = [
        f"rank {rank}: finished at {3 * (40 + rank)}"
        if killed == "none"
        else f"rank {rank}: SIGTERMException at {40 + rank + 4}"
        for rank in (0, 1)
    ]
    assert said == ends, done.stderr


def two_devices(*words: str) -> subprocess.Popen[str]:
    """``video-snl`` in two processes of which the first starts the other."""
    return subprocess.Popen(
        command(*words, "--trainer.devices", "2"),
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )


class Job:
    """A job of SLURM that trains in two tasks, in a folder of its own."""

    def __init__(self, slurm: Slurm, root: Path, folder: Path) -> None:
        self.slurm, self.folder, self.root = slurm, folder, root
        words = options(root, folder)
        place = words.index("--trainer.output")
        del words[place : place + 2]
        self.number = slurm.submit(
            "train.sbatch", "video-snl", "train", *words, options=TASKS, cwd=folder
        )

    @property
    def log(self) -> str:
        path = self.folder / f"slurm-{self.number}.out"
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    @property
    def run(self) -> Path:
        return only_run(self.folder / "runs" / f"slurm-{self.number}")

    def wait_for(self, line: str) -> None:
        end = time.monotonic() + 200
        while line not in self.log:
            assert time.monotonic() < end, self.log
            time.sleep(0.05)


def test_a_job_out_of_time_is_queued_again_and_goes_on(
    slurm: Slurm, root: Path, unbroken: Path, tmp_path: Path
) -> None:
    job = Job(slurm, root, tmp_path)
    # The signal that SLURM sends to the script before the time limit, which is minutes.
    at_the_limit = ("scancel", "--batch", "--signal", "USR1", job.number)
    job.wait_for("run folder:")
    slurm.call(*at_the_limit)
    job.wait_for("error: no epoch was finished")
    job.wait_for("epoch 2/")
    slurm.call(*at_the_limit)
    slurm.wait_for(job.number, "COMPLETED")
    assert slurm.job(job.number)["Restarts"] == "1"
    assert job.log.count("interrupted after ") == 1 and job.log.count("resuming ") == 1, job.log
    assert len(record(job.run)["resumed"]) == 1 and record(job.run)["status"] == "finished"
    assert_same_weights(job.run, unbroken)


def test_a_killed_task_ends_its_job_which_can_be_queued_again(
    slurm: Slurm, root: Path, unbroken: Path, tmp_path: Path
) -> None:
    job = Job(slurm, root, tmp_path)
    job.wait_for("epoch 2/")
    task = process_of(root, f"SLURM_JOB_ID={job.number}", "SLURM_PROCID=1")
    os.kill(task, signal.SIGKILL)
    slurm.wait_for(job.number, "FAILED")
    assert "error: another process of this training stopped" in job.log, job.log
    assert record(job.run)["status"] == "failed"
    slurm.call("scontrol", "requeue", job.number)
    slurm.wait_for(job.number, "COMPLETED")
    assert_same_weights(job.run, unbroken)


def test_an_array_shares_out_a_list(
    slurm: Slurm, root: Path, unbroken: Path, tmp_path: Path
) -> None:
    videos = sorted(str(path) for path in (root / "UCF-101").rglob("*.avi"))[:7]
    (tmp_path / "videos.txt").write_text("".join(f"{video}\n" for video in videos))
    words = ["--checkpoint", str(unbroken), "--accelerator", "cpu", "--num_workers", "1"]
    features = ["video-snl", "features", *words, "--clips", "2", "--crops", "1", "-o"]
    job = slurm.submit(
        "array.sbatch",
        *("videos.txt", *features, "features-%a.parquet"),
        options=("--array", "1-3"),
        cwd=tmp_path,
    )
    for task in ("1", "2", "3"):
        slurm.wait_for(f"{job}_{task}", "COMPLETED")
    parts = [read_features(tmp_path / f"features-{task}.parquet") for task in (1, 2, 3)]
    assert [len(set(part.paths)) for part in parts] == [3, 2, 2]
    subprocess.run([*command(*features[1:]), "whole.parquet", *videos], cwd=tmp_path, check=True)
    whole = rows(read_features(tmp_path / "whole.parquet"))
    shared = {key: value for part in parts for key, value in rows(part).items()}
    assert shared.keys() == whole.keys()
    for key, vector in shared.items():  # of batches of another size
        np.testing.assert_allclose(vector, whole[key], rtol=0, atol=1e-5 * np.abs(whole[key]).max())


@pytest.mark.parametrize(
    ("first", "last", "step", "done"),
    [(0, 1, 1, ["ac", "b"]), (1, 3, 1, ["a", "b", "c"]), (0, 2, 2, None), (3, 3, 1, None)],
)
def test_an_array_does_every_line_once_or_none(
    first: int, last: int, step: int, done: list[str] | None, tmp_path: Path
) -> None:
    (tmp_path / "list.txt").write_bytes(b"a\nb\r\n\n \nc")
    write_program(tmp_path / "srun", 'shift; IFS=; printf "%s" "$*"')
    numbers = range(first, last + 1, step)
    for place, number in enumerate(numbers):
        values = {"COUNT": len(numbers), "ID": number, "MIN": first, "MAX": last}
        ran = run_array(tmp_path, values, "list.txt", "command")
        assert ran.returncode == (2 if done is None else 0), ran.stderr
        assert ran.stdout == ("" if done is None else done[place])


@pytest.mark.parametrize(
    ("words", "again"),
    [
        (["video-snl", "features", "-o", "f.parquet"], True),
        (["python", "-m", "reid", "extract"], True),
        (["video-snl", "predict"], False),
    ],
)
def test_what_would_begin_anew_is_not_queued_again(
    words: list[str], again: bool, tmp_path: Path
) -> None:
    """A command that ends by itself with an exit code, after SLURM's signal before the limit."""
    (tmp_path / "list.txt").write_text("a")
    write_program(tmp_path / "srun", "kill -USR1 $PPID; sleep 0.5; exit 3")
    write_program(tmp_path / "scontrol", 'echo "$@"')
    values = {"COUNT": 1, "ID": 0, "MIN": 0, "MAX": 0}
    ran = run_array(tmp_path, values, "list.txt", *words)
    assert ran.returncode == 3
    assert ran.stdout == ("requeue 7_0\n" if again else "")
    assert ("error: this command would begin anew" in ran.stderr) is not again


def test_an_array_without_its_list_has_failed(tmp_path: Path) -> None:
    ran = run_array(tmp_path, {"COUNT": 1, "ID": 0, "MIN": 0, "MAX": 0}, "none.txt", "command")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("error: there is no list none.txt")


def write_program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)


def run_array(
    folder: Path, values: dict[str, int], *words: str
) -> subprocess.CompletedProcess[str]:
    """Run a task of ``array.sbatch`` with the programs of SLURM that are in the folder."""
    return subprocess.run(
        ["bash", REPOSITORY / "scripts" / "slurm" / "array.sbatch", *words],
        cwd=folder,
        env={
            "PATH": f"{folder}:{os.environ['PATH']}",
            "SLURM_ARRAY_JOB_ID": "7",
            **{f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()},
        },
        capture_output=True,
        text=True,
    )


def rows(table: FeatureTable) -> dict[tuple[str, int], np.ndarray]:
    """The vectors of a file by video and clip."""
    keys = zip(table.paths, table.clips.tolist(), strict=True)
    return dict(zip(keys, table.features, strict=True))
