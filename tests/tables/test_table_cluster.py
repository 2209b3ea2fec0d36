"""Cells as jobs of Submitit, which really runs them here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from video_snl.cli.main import main
from video_snl.errors import UserError
from video_snl.tables.jobs import Job, JobResult
from video_snl.tables.run import Cluster, Training, cluster_runner
from video_snl.tables.store import Store

ROOT = Path(__file__).resolve().parents[2]
# Two steps are an epoch: what is tried here is the way there and back.
WORDS = ("-m", "video_snl", "table", "6", "--dataset", "digits", "--blocks", "none", "--seeds", "1")
SHORT = ("--epochs", "1", "--set", "optimizer.epoch_steps=2", "optimizer.batch_size=8")

submitit = pytest.importorskip("submitit")


def run(output: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *WORDS, *SHORT, "-o", str(output), *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("cluster", ["local", "slurm"])
def test_digits_are_trained_as_jobs_of_a_cluster(
    cluster: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if cluster == "slurm":
        environment = request.getfixturevalue("slurm").environment
        for name in ("PATH", "SLURM_CONF"):
            monkeypatch.setenv(name, environment[name])
    done = run(tmp_path, "--cluster", cluster, "--jobs", "2", "--gpus", "0", "--cpus", "1")
    assert done.returncode == 0, done.stderr
    assert "1 of 1: digits/preresnet20/none, seed 0: " in done.stderr
    (result,) = Store(tmp_path / "results.jsonl").read().results
    assert 0 <= result.metrics["last"]["val/top1"] <= 1
    assert (Path(result.run) / "checkpoints" / "last.ckpt").is_file()
    assert "| no block | 1 | " in done.stdout
    assert list((tmp_path / "cluster").iterdir())
    assert main([*WORDS[2:], *SHORT, "-o", str(tmp_path)]) == 0
    again = capsys.readouterr()
    assert "1 of 1 training done" in again.err
    assert again.out == done.stdout


@pytest.mark.slow
def test_interrupted_it_takes_its_jobs_back(tmp_path: Path) -> None:
    command = [sys.executable, *WORDS, "-o", str(tmp_path), "--cluster", "local", "--jobs", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    )
    log = tmp_path / "logs" / "table6-digits-preresnet20-none-s0.log"
    end = time.monotonic() + 200
    while not (log.is_file() and "run folder" in log.read_text()) and time.monotonic() < end:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, shown = process.communicate(timeout=100)
    assert process.returncode == 130 and "the same command goes on" in shown
    assert "epoch 12/12" not in log.read_text()
    assert _trainings(tmp_path) == []


def _trainings(output: Path) -> list[str]:
    """Processes that name the folder."""
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    return [line.decode(errors="replace") for line in lines if str(output).encode() in line]


def _job(folder: Path, name: str = "job") -> Job:
    return Job(6, "row", 0, "settings", name, (), folder, folder / "log", folder / "lock")


class _Submitted:
    """A job of a cluster that ends at the second look, with a result or an error."""

    def __init__(self, training: Training, log: list[str]) -> None:
        self.training, self.log, self.looks = training, log, 0
        self.paths = type("Paths", (), {"stderr": "the log"})

    def done(self) -> bool:
        self.looks += 1
        cancelled = f"cancel {self.training.job.name}" in self.log
        return cancelled or (self.looks > 1 and self.training.job.name != "slow")

    def exception(self) -> Exception | None:
        failed = self.training.job.name == "bad"
        return RuntimeError("Traceback\nOut of memory\n") if failed else None

    def result(self) -> JobResult:
        return JobResult(self.training.job, "finished")

    def cancel(self, check: bool = True) -> None:
        self.log.append(f"cancel {self.training.job.name}")


class _Executor:
    log: list[str] = []
    asked: dict[str, Any] = {}

    def __init__(self, folder: Path, cluster: str, slurm_max_num_timeout: int) -> None:
        self.asked["requeues"] = slurm_max_num_timeout
        self.log.clear()

    def update_parameters(self, **values: Any) -> None:
        self.asked.update(values)

    def submit(self, training: Training) -> _Submitted:
        self.log.append(f"submit {training.job.name}")
        return _Submitted(training, self.log)


def _names(results: Sequence[JobResult]) -> list[tuple[str, str]]:
    return [(result.job.name, result.status) for result in results]


def test_jobs_of_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submitit, "AutoExecutor", _Executor)
    cluster = Cluster("slurm", partition="gpu", gpus=2, cpus=8, minutes=90)
    runner = cluster_runner(cluster, tmp_path, 2, every=0.0)
    asked = {key: _Executor.asked[key] for key in ("slurm_partition", "gpus_per_node")}
    assert asked == {"slurm_partition": "gpu", "gpus_per_node": 2}
    assert (_Executor.asked["cpus_per_task"], _Executor.asked["timeout_min"]) == (8, 90)
    assert _Executor.asked["requeues"] >= 1000  # a training may take many such times
    jobs = [_job(tmp_path, name) for name in ("a", "bad", "c")]
    results = list(runner(jobs))
    assert _names(results) == [("a", "finished"), ("bad", "failed"), ("c", "finished")]
    assert results[1].message == "Out of memory (see the log)"
    assert _Executor.log == ["submit a", "submit bad", "submit c"]


def test_jobs_are_cancelled_where_nobody_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submitit, "AutoExecutor", _Executor)
    running = cluster_runner(Cluster("slurm"), tmp_path, 2, every=0.0)(
        [_job(tmp_path, name) for name in ("a", "slow", "c")]
    )
    assert next(running).job.name == "a"
    running.close()
    assert _Executor.log == ["submit a", "submit slow", "cancel slow"]


def test_a_job_that_is_out_of_time_is_queued_again(tmp_path: Path) -> None:
    delayed = Training(_job(tmp_path)).checkpoint()
    assert isinstance(delayed.function, Training)
    assert delayed.function.job == _job(tmp_path)


def test_where_there_is_no_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="--cluster slurm: .*; is this a login node"):
        cluster_runner(Cluster("slurm"), tmp_path, 1)


def test_without_submitit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UserError, match=r"pip install 'video-snl\[cluster\]'"):
        cluster_runner(Cluster("local"), tmp_path, 1)
