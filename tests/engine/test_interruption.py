"""Runs that are stopped from outside, resumed, and end as if nothing had happened."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.tiny import command, environment, metrics, only_run, record, tiny_options
from video_snl.cli.main import main

EPOCHS = 5


@pytest.fixture(scope="module")
def unbroken(root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, float]]:
    output = tmp_path_factory.mktemp("runs")
    assert main(["train", *tiny_options(root, output, optimizer__epochs=EPOCHS)]) == 0
    return metrics(only_run(output))


def assert_same(ours: list[dict[str, float]], expected: list[dict[str, float]]) -> None:
    assert len(ours) == len(expected)
    for row, wanted in zip(ours, expected, strict=True):
        assert row == pytest.approx(wanted, abs=1e-6, rel=0)


def start(*words: str) -> subprocess.Popen[str]:
    """The command in a process group of its own, as a shell would start it."""
    return subprocess.Popen(
        command(*words),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=environment(),
        start_new_session=True,
    )


def lines_of(process: subprocess.Popen[str]) -> Iterator[str]:
    return iter(process.stderr.readline, "")


@pytest.mark.parametrize(
    ("stop", "code", "workers"),
    [
        (signal.SIGTERM, 143, 2),
        pytest.param(signal.SIGHUP, 129, 2, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 130, 2, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, -9, 0, marks=pytest.mark.slow),
    ],
    ids=["SIGTERM", "SIGHUP", "SIGINT", "SIGKILL"],
)
def test_stopped_run_resumes_to_the_unbroken_result(
    root: Path,
    unbroken: list[dict[str, float]],
    tmp_path: Path,
    stop: signal.Signals,
    code: int,
    workers: int,
) -> None:
    options = {"optimizer__epochs": EPOCHS, "data__num_workers": workers}
    process = start("train", *tiny_options(root, tmp_path, **options))
    said = []
    for line in lines_of(process):
        said.append(line)
        if line.startswith("epoch 2/"):
            # The whole group, workers included, as SLURM and Ctrl-C do.
            os.killpg(process.pid, stop)
    assert process.wait(60) == code, "".join(said)
    run = only_run(tmp_path)
    finished = len(metrics(run))
    assert 2 <= finished < EPOCHS
    if stop != signal.SIGKILL:
        assert "Traceback" not in "".join(said)
        assert f"video-snl train --resume {run}" in said[-1]
        assert record(run)["status"] == "interrupted"
    assert main(["train", "--resume", str(run)]) == 0
    assert record(run)["status"] == "finished"
    assert_same(metrics(run), unbroken)


@pytest.mark.slow
def test_a_run_under_nohup_outlives_its_terminal(root: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        command("train", *tiny_options(root, tmp_path)),
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    for line in lines_of(process):
        if line.startswith("epoch 1/"):
            process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 0
    assert record(only_run(tmp_path))["status"] == "finished"


@pytest.mark.slow
def test_two_resumes_at_once_are_one(root: Path, tmp_path: Path) -> None:
    assert main(["train", *tiny_options(root, tmp_path, optimizer__epochs=1)]) == 0
    words = ["train", "--resume", str(only_run(tmp_path)), "--optimizer.epochs", "20"]
    processes = [start(*words), start(*words)]
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert sorted(process.returncode for process in processes) == [0, 2], said
    assert sum("being trained just now" in each for each in said) == 1
    assert len(metrics(only_run(tmp_path))) == 20


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ten_kills_at_random_moments_change_nothing(root: Path, tmp_path: Path) -> None:
    options = {"optimizer__epochs": 120}
    assert main(["train", *tiny_options(root, tmp_path / "unbroken", **options)]) == 0
    killed = tmp_path / "killed"
    words = ["train", *tiny_options(root, killed, **options)]
    moments = random.Random(0)
    for kills in range(1, 11):
        process = start(*words)
        for line in lines_of(process):
            if line.startswith(("run folder:", "resuming")):
                break
        # From before the first step of the process to some epochs after it.
        time.sleep(moments.uniform(0, 2.5))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)
        run = only_run(killed)
        assert record(run)["status"] != "finished", f"ended before kill {kills}: too few epochs"
        words = ["train", "--resume", str(run)]  # by its name: it may not have begun a step
    assert main(words) == 0
    assert_same(metrics(run), metrics(only_run(tmp_path / "unbroken")))


def test_an_interruption_within_the_write_of_a_checkpoint_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from video_snl.engine.callbacks import AtomicCheckpointIO

    def save(*_: object) -> None:
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("unexpected pos 440512 vs 440408")

    path = tmp_path / "last.ckpt"
    path.write_bytes(b"the old one")
    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(KeyboardInterrupt):
        AtomicCheckpointIO().save_checkpoint({}, path)
    assert path.read_bytes() == b"the old one" and [each.name for each in tmp_path.iterdir()] == [
        "last.ckpt"
    ]
