"""Two processes (gloo, CPU) train like one with the same global batch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest

from tests.engine.test_interruption import metrics
from tests.tiny import command, environment, only_run, record, run_command, tiny_options
from tests.videos import write_ucf101
from video_snl.cli.main import main
from video_snl.config.video import TrainerConfig
from video_snl.engine.fit import _end_other_processes
from video_snl.engine.trainer import check_processes
from video_snl.errors import UserError


@pytest.mark.slow
def test_two_processes_have_the_loss_curve_of_one(tmp_path: Path) -> None:
    root = write_ucf101(tmp_path / "ucf101")
    # BatchNorm would see half a batch in each process; frozen, the batch is a sum over clips.
    shared = {"optimizer__frozen_batchnorm": "true", "model__block": "none"}
    assert main(["train", *tiny_options(root, tmp_path / "one", **shared)]) == 0
    two = run_command("train", *tiny_options(root, tmp_path / "two", trainer__devices=2, **shared))
    assert two.returncode == 0, two.stderr
    expected, ours = metrics(only_run(tmp_path / "one")), metrics(only_run(tmp_path / "two"))
    assert len(ours) == len(expected) == 3
    for row, wanted in zip(ours, expected, strict=True):
        assert row == pytest.approx(wanted, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(
    ("variables", "devices", "nodes", "advice"),
    [
        ({"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}, 1, 1, (2, 1)),
        (
            {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"},
            "auto",
            1,
            (2, 1),
        ),
        ({"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}, 8, 2, (4, 2)),
        (
            {"SLURM_NTASKS": "6", "SLURM_STEP_NUM_TASKS": "6", "SLURM_STEP_NUM_NODES": "2"},
            1,
            2,
            (3, 2),
        ),
    ],
)
def test_processes_that_would_train_alone_are_refused(
    variables: dict[str, str],
    devices: int | Literal["auto"],
    nodes: int,
    advice: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    said = f"give --trainer.devices {advice[0]} --trainer.nodes {advice[1]}"
    with pytest.raises(UserError, match=said):
        check_processes(TrainerConfig(accelerator="cpu", devices=devices, nodes=nodes))
    check_processes(TrainerConfig(devices=advice[0], nodes=advice[1]))


# Python loads this module in every process before anything else; the first one reads no video.
NO_VIDEO = """
import os
from video_snl.data.decoding import readers
from video_snl.errors import UserError
read_clips = readers.read_clips
def read_or_fail(path, *arguments, **options):
    if os.environ.get("LOCAL_RANK", "0") == "0":
        raise UserError(f"{path} is not for the first process")
    return read_clips(path, *arguments, **options)
readers.read_clips = read_or_fail
"""


@pytest.mark.slow
def test_an_error_in_the_first_process_ends_the_other(tmp_path: Path) -> None:
    """The other one waits for gradients; gloo tells it of the first one's end, NCCL would not."""
    root = write_ucf101(tmp_path / "ucf101")
    (tmp_path / "sitecustomize.py").write_text(NO_VIDEO)
    path = f"{tmp_path}{os.pathsep}{environment()['PYTHONPATH']}"
    options = tiny_options(root, tmp_path / "runs", trainer__devices=2, data__max_failures=0)
    done = run_command("train", *options, PYTHONPATH=path)
    assert done.returncode == 2, done.stderr
    assert "cannot be read" in done.stderr and "is not for the first process" in done.stderr
    assert "Traceback" not in done.stderr  # the other one's, of a connection that was closed
    assert record(only_run(tmp_path / "runs"))["status"] == "failed"


@pytest.mark.slow
def test_an_error_in_another_process_says_its_line_and_ends_all(
    tmp_path: Path,
) -> None:
    root = write_ucf101(tmp_path / "ucf101")
    (tmp_path / "sitecustomize.py").write_text(NO_VIDEO.replace('"0") == "0"', '"0") == "1"'))
    path = f"{tmp_path}{os.pathsep}{environment()['PYTHONPATH']}"
    options = tiny_options(root, tmp_path / "runs", trainer__devices=2, data__max_failures=0)
    done = run_command("train", *options, PYTHONPATH=path)
    # Lightning kills the first one, or gloo tells it of the broken connection before.
    endings = {-signal.SIGKILL: "running", 2: "failed"}
    assert done.returncode in endings, done.stderr
    assert "cannot be read" in done.stderr and "is not for the first process" in done.stderr
    if done.returncode == 2:
        # Or it counted the other one's failure itself, from the quarantine that they share; the
        # other one may be ended before it says so, too.
        ended = "another process of this training stopped (exit code 2;" in done.stderr
        assert ended or done.stderr.count("raise --data.max_failures") in (1, 2), done.stderr
    assert record(only_run(tmp_path / "runs"))["status"] == endings[done.returncode]


@pytest.mark.slow
def test_the_other_process_ends_with_a_first_one_that_is_killed_at_the_start(
    tmp_path: Path,
) -> None:
    root = write_ucf101(tmp_path / "ucf101")
    words = tiny_options(root, tmp_path / "runs", trainer__devices=2)
    first = subprocess.Popen(
        command("train", *words), stderr=subprocess.PIPE, text=True, env=environment()
    )
    for line in first.stderr:
        if line.startswith("run folder"):
            break
    children: list[str] = []
    listed = Path(f"/proc/{first.pid}/task/{first.pid}/children")
    end = time.monotonic() + 60
    while not children and time.monotonic() < end:
        # Decoders have no rank.
        found = listed.read_text().split()
        children = [c for c in found if b"LOCAL_RANK=1" in Path(f"/proc/{c}/environ").read_bytes()]
        time.sleep(0.05)
    first.kill()
    first.wait(10)
    end = time.monotonic() + 30  # it may be importing, and looks only then
    while Path(f"/proc/{children[0]}").exists() and time.monotonic() < end:
        time.sleep(0.1)
    assert not Path(f"/proc/{children[0]}").exists()


def test_processes_that_wait_in_native_code_are_ended() -> None:
    words = "import ctypes; print(flush=True); ctypes.PyDLL(None).sleep(1000)"
    command = [sys.executable, "-c", words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"\n"
    process.stdout.close()
    launcher = SimpleNamespace(procs=[process])
    trainer: Any = SimpleNamespace(strategy=SimpleNamespace(launcher=launcher))
    assert _end_other_processes(trainer, wait=0.1) == 0
    assert process.poll() == -signal.SIGKILL
    assert launcher.procs == []  # or Lightning would end this process as well
    launcher.procs = [subprocess.Popen([sys.executable, "-c", "raise SystemExit(2)"])]
    assert _end_other_processes(trainer, wait=30) == 2
    trainer.strategy.launcher = None  # of a single device
    _end_other_processes(trainer)
