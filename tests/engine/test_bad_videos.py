"""Whole commands on data with bad files, and what is left when they are stopped."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.processes import descendants, fresh_workers, gone, shared_memory
from tests.tiny import (
    command,
    environment,
    only_run,
    record,
    run_command,
    run_here,
    tiny_options,
)
from tests.videos import write_ucf101, write_video
from video_snl.cli.main import main

# Python loads this module in every process, workers and all, before anything else.
STUCK_READER = """
import ctypes
from video_snl.data.decoding import readers
read_clips = readers.read_clips
def read_or_hang(path, *arguments, **options):
    if "_g09_" in path and "Bow" in path:
        ctypes.PyDLL(None).sleep(1000)
    return read_clips(path, *arguments, **options)
readers.read_clips = read_or_hang
"""


def corrupt(root: Path, name: str) -> Path:
    """Make one file of a dataset no video. (Its groups 1-7 test, 8-11 train.)"""
    [path] = root.glob(f"UCF-101/*/v_{name}_c01.avi")
    path.unlink()  # a link that all classes share
    path.write_bytes(b"no video")
    return path


def notes(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "quarantine.jsonl").read_text().splitlines()]


def hanging(tmp_path: Path) -> dict[str, str]:
    """The environment of commands whose reader hangs on one training video of the class Bow."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(STUCK_READER)
    return environment(PYTHONPATH=f"{folder}{os.pathsep}{environment()['PYTHONPATH']}")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """A dataset with bad files, a run of two epochs on it, and what the run said."""
    folder = tmp_path_factory.mktemp("bad")
    root = write_ucf101(folder / "ucf101")
    for name in ("Clap_g10", "Dive_g02"):
        corrupt(root, name)
    options = {"data__num_workers": 2, "data__deadline": 2.0, "optimizer__epochs": 2}
    with fresh_workers(hanging(folder)["PYTHONPATH"]):
        done = run_here("train", *tiny_options(root, folder / "runs", **options))
    assert done.returncode == 0, done.stderr
    return root, only_run(folder / "runs"), done.stderr


def test_training_goes_on(finished: tuple[Path, Path, str]) -> None:
    _, run, said = finished
    found = {Path(note["path"]).name: note for note in notes(run)}
    assert {name: note["kind"] for name, note in found.items()} == {
        "v_Bow_g09_c01.avi": "timeout",
        "v_Clap_g10_c01.avi": "error",
        "v_Dive_g02_c01.avi": "error",
    }
    assert len(notes(run)) == 3  # one note each, in two epochs
    assert 2 <= found["v_Bow_g09_c01.avi"]["seconds"] < 20
    lines = [line for line in said.splitlines() if line.startswith("unreadable (")]
    assert len(lines) == 3 and "Traceback" not in said
    [last] = [line for line in said.splitlines() if line.startswith("epoch 2/2")]
    assert last.endswith("unreadable: 2 training, 1 test")
    assert "videos that could not be read: 2 training, 1 test, see " in said


def test_unreadable_test_videos_are_wrong_in_validation(
    finished: tuple[Path, Path, str], tmp_path: Path
) -> None:
    """Unreadable videos alone are wrong where there are only as many classes as top-k counts."""
    _, run, _ = finished
    with (run / "metrics.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert [float(row["val/top5"]) for row in rows] == pytest.approx([20 / 21] * 2)
    assert all(float(row["val/loss"]) > 0 for row in rows)


@pytest.mark.parametrize("unreadable", ["wrong", "skip"])
def test_evaluation_names_them(
    finished: tuple[Path, Path, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    unreadable: str,
) -> None:
    root, run, _ = finished
    bad = str(next(root.glob("UCF-101/Dive/v_Dive_g02_c01.avi")))
    words = ["evaluate", "--checkpoint", str(run), "--clips", "1", "--crops", "1"]
    assert main([*words, "--unreadable", unreadable, "--output", str(tmp_path)]) == 0
    shown, said = capsys.readouterr()
    how = {"wrong": "they count as wrong", "skip": "they are left out of all figures"}
    assert f"test videos that could not be read: 1; {how[unreadable]}:" in shown
    assert f"\n  {bad}\n" in shown
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["unreadable"], metrics["unreadable_count"]) == ([bad], 1)
    lists = {"rule": "given", "by": "the dataset's own lists", "file": None}
    assert metrics["division"] == lists
    with (tmp_path / "predictions.csv").open() as lines:
        predictions = list(csv.DictReader(lines))
    with (tmp_path / "confusion_video.csv").open() as lines:
        confusion = {row["true class"]: row for row in csv.DictReader(lines)}
    assert len(predictions) == 21
    for row in predictions:
        empty = row["video"] == bad
        assert (row["clip prediction"] == row["video prediction"] == "") == empty
        assert (row["clip score"] == row["video score"] == "") == empty
    right = sum(row["video prediction"] == row["true class"] for row in predictions)
    support = json.loads((tmp_path / "per_class_video.json").read_text())["Dive"]["support"]
    if unreadable == "wrong":
        assert (metrics["videos"], support, confusion["Dive"]["(unreadable)"]) == (21, 7, "1")
        assert metrics["video_top1"] == pytest.approx(right / 21)
        assert metrics["video_top3"] == metrics["clip_top3"] == pytest.approx(20 / 21)
    else:
        assert (metrics["videos"], support, "(unreadable)" in confusion["Dive"]) == (20, 6, False)
        assert metrics["video_top1"] == pytest.approx(right / 20)
        assert metrics["video_top3"] == 1
    assert [note["path"] for note in notes(tmp_path)] == [bad]


def test_class_zero_is_no_prediction_for_a_video_without_scores(
    finished: tuple[Path, Path, str], tmp_path: Path
) -> None:
    """The first class would win an argmax over nothing."""
    root, run, _ = finished
    other = shutil.copytree(root, tmp_path / "ucf101")
    for group in range(1, 5):
        corrupt(other, f"Bow_g{group:02d}")
    words = ["--data.root", str(other), "--clips", "1", "--output", str(tmp_path / "out")]
    words += ["--data.max_failures", "0.3", "--data.num_workers", "0"]
    assert main(["evaluate", "--checkpoint", str(run), *words]) == 0
    report = json.loads((tmp_path / "out" / "per_class_video.json").read_text())
    assert report["Bow"]["recall"] <= 3 / 7 and report["Bow"]["support"] == 7


@pytest.mark.parametrize("workers", ["0", "2"])
def test_evaluation_stops_at_too_many(
    finished: tuple[Path, Path, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    workers: str,
) -> None:
    root, run, _ = finished
    other = shutil.copytree(root, tmp_path / "ucf101")
    for group in range(1, 5):
        corrupt(other, f"Bow_g{group:02d}")
    words = ["--data.root", str(other), "--clips", "1", "--output", str(tmp_path / "out")]
    assert main(["evaluate", "--checkpoint", str(run), "--data.num_workers", workers, *words]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "error: 4 of 21 test videos cannot be read" in error or "error: 5 of 21" in error
    assert str(tmp_path / "out" / "quarantine.jsonl") in error
    assert not (tmp_path / "out" / "metrics.json").exists()


@pytest.mark.slow
def test_training_stops_at_too_many(tmp_path: Path) -> None:
    root = write_ucf101(tmp_path / "ucf101")
    for name in ("Bow_g08", "Clap_g09", "Dive_g10", "Bow_g11"):
        corrupt(root, name)
    options = {"data__num_workers": 1}
    done = run_command("train", *tiny_options(root, tmp_path / "runs", **options))
    assert done.returncode == 2 and "Traceback" not in done.stderr
    error = done.stderr.strip().splitlines()[-1]
    assert "error: 4 of 12 training videos cannot be read" in error
    assert record(only_run(tmp_path / "runs"))["status"] == "failed"


def test_resuming_keeps_the_quarantine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_ucf101(tmp_path / "ucf101")
    paths = [corrupt(root, "Bow_g09"), corrupt(root, "Clap_g01")]
    options = tiny_options(root, tmp_path / "runs", optimizer__epochs=1)
    assert main(["train", *options]) == 0
    run = only_run(tmp_path / "runs")
    before = notes(run)
    for path in paths:  # a file that failed once is not tried again in this run
        path.unlink()
        write_video(path, 6)
    capsys.readouterr()
    assert main(["train", "--resume", str(run), "--optimizer.epochs", "2"]) == 0
    assert notes(run) == before and len(before) == 2
    said = capsys.readouterr().err
    assert "unreadable: 1 training, 1 test" in said and "unreadable (" not in said


@pytest.mark.slow
def test_two_processes_share_a_quarantine(tmp_path: Path) -> None:
    root = write_ucf101(tmp_path / "ucf101")
    bad = {str(corrupt(root, name)) for name in ("Bow_g09", "Clap_g01", "Dive_g02")}
    options = {"trainer__devices": 2, "data__num_workers": 1, "optimizer__epochs": 2}
    done = run_command("train", *tiny_options(root, tmp_path / "runs", **options))
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [
        only_run(tmp_path / "runs").name
    ]
    found = notes(only_run(tmp_path / "runs"))
    assert {note["path"] for note in found} == bad
    with (only_run(tmp_path / "runs") / "metrics.csv").open() as lines:
        assert [float(row["val/top5"]) for row in csv.DictReader(lines)] == pytest.approx(
            [19 / 21] * 2
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stop", "code"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)],
    ids=["SIGTERM", "SIGINT", "SIGKILL"],
)
def test_a_stopped_command_leaves_no_process(
    tmp_path: Path, stop: signal.Signals, code: int
) -> None:
    """No process is left where a worker is stuck in native code, far from its deadline, and
    only the command itself is told to stop."""
    root, shared = write_ucf101(tmp_path / "ucf101"), shared_memory()
    options = {"data__num_workers": 2, "data__deadline": 2.0, "optimizer__epochs": 500}
    process = subprocess.Popen(
        command("train", *tiny_options(root, tmp_path / "runs", **options)),
        stderr=subprocess.PIPE,
        text=True,
        env=hanging(tmp_path),
    )
    for line in process.stderr:
        if line.startswith("epoch 2/"):
            break
    children = descendants(process.pid)
    assert len(children) == 5  # the forkserver; two workers each for training and validation
    process.send_signal(stop)
    process.stderr.read()  # until no process has it open any more
    assert process.wait(60) == code
    assert all(gone(pid) for pid in children)
    assert shared_memory() == shared


def test_an_error_in_training_leaves_no_worker(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from video_snl.data.workers.forkserver import start_forkserver

    before = descendants(os.getpid())  # also what earlier tests have left
    options = {"optimizer__learning_rate": 1e30, "data__num_workers": 2, "optimizer__epochs": 9}
    assert main(["train", *tiny_options(root, tmp_path, **options)]) == 2
    assert "the loss became" in capsys.readouterr().err
    assert descendants(os.getpid()) - before <= {start_forkserver().pid}
