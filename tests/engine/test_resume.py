"""Runs that are trained on: wherever they stand by now, with what was asked, by one at a time."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.tiny import environment, metrics, only_run, record, run_here, tiny_options
from tests.tiny_images import image_options
from tests.videos import write_ucf101
from video_snl.cli.main import main
from video_snl.config.video import Experiment
from video_snl.errors import UserError
from video_snl.runs.run import Run, checkpoint_path, newest_begun
from video_snl.runs.trained import stored_experiment
from video_snl.utils.locks import Held, is_held, locked


@pytest.fixture(scope="module")
def trained(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("runs")
    options = tiny_options(root, output, optimizer__epochs=2, model__block="none")
    assert main(["train", *options]) == 0
    return only_run(output)


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the run, which is changed."""
    return Path(shutil.copytree(trained, tmp_path / "runs" / trained.name))


def change(run: Path, *without: str, **values: Any) -> None:
    """Change entries of the record, and take some out."""
    entries = {**record(run), **values}
    kept = {name: value for name, value in entries.items() if name not in without}
    (run / "run.json").write_text(json.dumps(kept))


def resume(run: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run_here("train", "--resume", str(run), *words)


def refused(run: Path, *words: str) -> str:
    """Return the one line of a refusal, after which nothing is changed."""
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    done = resume(run, *words)
    assert done.returncode == 2, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and "error:" in lines[0]
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    return lines[0]


@pytest.mark.parametrize("linked", [False, True], ids=["copied", "by a symbolic link"])
def test_a_run_in_another_place_keeps_its_best_epoch(
    run: Path, tmp_path: Path, linked: bool
) -> None:
    last = run / "checkpoints" / "last.ckpt"
    content = torch.load(last, weights_only=True)
    [state] = [s for s in content["callbacks"].values() if s.get("monitor") == "val/top1"]
    assert state["dirpath"] != str(run / "checkpoints")  # of the place it was trained in
    state["best_model_score"] = torch.tensor(1.5)  # no epoch can be better
    state["best_k_models"] = {path: torch.tensor(1.5) for path in state["best_k_models"]}
    torch.save(content, last)
    best = (run / "checkpoints" / "best.ckpt").read_bytes()
    named = run
    if linked:
        named = tmp_path / "link"
        named.symlink_to(run)
    done = resume(named, "--optimizer.epochs", "3")
    assert done.returncode == 0, done.stderr
    assert len(metrics(run)) == 3
    assert (run / "checkpoints" / "best.ckpt").read_bytes() == best


@pytest.mark.parametrize("entries", ["of today", "of an earlier version"])
def test_a_missing_last_checkpoint_does_not_start_over_results(run: Path, entries: str) -> None:
    (run / "checkpoints" / "last.ckpt").unlink()
    if entries != "of today":
        change(run, "first_step", "finished_epochs", "lists")
    assert "last.ckpt is missing" in refused(run)
    (run / "checkpoints" / "best.ckpt").unlink()
    assert "last.ckpt is missing" in refused(run)


@pytest.mark.parametrize("damage", ["cut", "empty", "folder", "no state"])
def test_a_damaged_last_checkpoint_is_named(run: Path, damage: str) -> None:
    last = run / "checkpoints" / "last.ckpt"
    if damage == "cut":
        last.write_bytes(last.read_bytes()[:-1000])
    elif damage == "empty":
        last.write_bytes(b"")
    elif damage == "folder":
        last.unlink()
        last.mkdir()
    else:
        content = torch.load(last, weights_only=True)
        del content["optimizer_states"]
        torch.save(content, last)
    said = refused(run)
    assert str(last) in said and f"--model.weights {run}/checkpoints/best.ckpt" in said


def test_what_a_resumed_part_used_is_stored(run: Path) -> None:
    words = ["--optimizer.epochs", "3", "--optimizer.learning_rate", "0.01"]
    words += ["--optimizer.batch_size", "4"]
    done = resume(run, *words)
    assert done.returncode == 0, done.stderr
    assert "optimizer.batch_size: 6 until now, 4 from here on" in done.stderr
    values = record(run)
    assert {"task": "video"} | values["config"] == yaml.safe_load((run / "config.yaml").read_text())
    assert values["config"]["optimizer"]["learning_rate"] == 0.01
    [entry] = values["resumed"]
    assert entry["after_epochs"] == 2
    assert entry["changed"] == {
        "optimizer.epochs": [2, 3],
        "optimizer.batch_size": [6, 4],
        "optimizer.learning_rate": [0.02, 0.01],
    }
    assert values["finished_epochs"] == 3
    assert stored_experiment(str(run), "", checkpoint=False).optimizer.epochs == 3


def test_fewer_epochs_than_are_finished(run: Path) -> None:
    assert "2 epochs" in refused(run, "--optimizer.epochs", "1")


def test_a_batch_size_counts_as_meant_only_where_it_is_given(run: Path, tmp_path: Path) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["optimizer"]["batch_size"] = 4
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(config))
    words = ["--config", str(tmp_path / "other.yaml")]
    said = refused(run, *words)
    assert "batch_size=4" in said and "--force" in said
    assert resume(run, *words, "--force").returncode == 0
    assert resume(run, *words, "--optimizer.batch_size", "4").returncode == 0


def test_a_changed_list_of_files_is_refused(run: Path, root: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(root, tmp_path / "ucf101"))
    config = record(run)["config"]
    config["data"]["root"] = str(other)
    change(run, config=config)
    assert resume(run).returncode == 0  # another place holds the same files
    [train_list] = other.rglob("trainlist01.txt")
    lines = train_list.read_text().splitlines()
    train_list.write_text("\n".join([*lines[1:], lines[0]]) + "\n")
    assert "training list" in refused(run)
    train_list.write_text("\n".join(lines[1:]) + "\n")
    assert f"{len(lines)} until now, {len(lines) - 1} today" in refused(run)
    accepted = resume(run, "--data.root", str(other))
    assert accepted.returncode == 0 and "training list" in accepted.stderr
    assert resume(run, "--force").returncode == 0


def test_only_one_process_trains_a_run(run: Path) -> None:
    with locked(run / ".lock"):
        assert is_held(run / ".lock")
        done = resume(run, "--optimizer.epochs", "3")
    assert done.returncode == 2 and f"process {os.getpid()}" in done.stderr
    assert len(metrics(run)) == 2
    assert not (run / ".lock").exists()


def test_no_kill_leaves_the_lock_held(tmp_path: Path) -> None:
    """Nor do processes that were forked from the one that held it."""
    lock = tmp_path / ".lock"
    code = f"""
import os, signal, sys, time
from pathlib import Path
from video_snl.utils.locks import locked
with locked(Path({str(lock)!r})):
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, b"x")  # it has let go of the lock by now
        time.sleep(60)
        os._exit(0)
    os.read(read, 1)
    print(child, flush=True)
    time.sleep(60)
"""
    words = [sys.executable, "-c", code]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment()) as holder:
        child = int(holder.stdout.readline())
        try:
            with pytest.raises(Held, match=f"process {holder.pid}"), locked(lock):
                pass
            holder.kill()
            holder.wait(10)
            with locked(lock) as holds:
                assert holds
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_file_system_without_locks_is_said_and_trained_on(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unsupported(file: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("video_snl.utils.locks.fcntl.flock", unsupported)
    assert main(["train", "--resume", str(run), "--optimizer.epochs", "3"]) == 0
    assert "has no locks" in capsys.readouterr().err
    assert len(metrics(run)) == 3


def test_a_run_that_was_killed_in_its_first_epoch_starts_it_again(run: Path) -> None:
    expected = metrics(run)
    shutil.rmtree(run / "checkpoints")
    (run / "metrics.csv").unlink()
    change(run, status="running", finished_epochs=0, metrics={})
    done = run_here("train", "--resume", "--trainer.output", str(run.parent))
    assert done.returncode == 0, done.stderr
    assert metrics(run) == expected


def test_a_run_of_an_earlier_version_is_trained_on(run: Path) -> None:
    change(run, "first_step", "finished_epochs", "lists")
    done = resume(run, "--optimizer.epochs", "3")
    assert done.returncode == 0, done.stderr
    assert len(metrics(run)) == 3
    assert record(run)["finished_epochs"] == 3 and record(run)["lists"]["training"]["files"]


def test_what_a_kill_left_goes_and_permissions_follow_the_umask(run: Path) -> None:
    left = [run / ".run.0123abcd.partial.json", run / "checkpoints" / ".last-ab12cd_3.ckpt"]
    kept = [run / ".notes-ab12cd_3.txt", run / "notes.partial.json"]
    for path in (*left, *kept):
        path.write_text("half")
    before = os.umask(0o077)
    try:
        done = resume(run, "--optimizer.epochs", "3")
    finally:
        os.umask(before)
    assert done.returncode == 0, done.stderr
    assert not any(path.exists() for path in left) and all(path.exists() for path in kept)
    for name in ("run.json", "config.yaml", "metrics.csv", "learning_curves.png"):
        assert (run / name).stat().st_mode & 0o777 == 0o600, name
    assert (run / "checkpoints" / "last.ckpt").stat().st_mode & 0o777 == 0o600


def test_failed_starts_are_passed_over(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    failed = Run.create(Path("runs"), "failed", Experiment())
    failed.update(status="failed", started="2999")
    assert checkpoint_path(None) == Path("runs") / run.name / "checkpoints" / "best.ckpt"
    assert f"passing over {failed.folder}: failed" in capsys.readouterr().err
    assert newest_begun(Path("runs")).folder == Path("runs") / run.name
    done = run_here("train", "--resume")
    assert done.returncode == 0, done.stderr
    assert f"resuming {Path('runs') / run.name}" in done.stderr
    done = run_here("evaluate", "--clips", "1", "--crops", "1")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(f"passing over {failed.folder}") == 1
    shutil.rmtree(run)
    for find in (lambda: checkpoint_path(None), lambda: newest_begun(Path("runs"))):
        with pytest.raises(UserError, match=r"found no run.*failed before its first step"):
            find()


def test_a_name_with_a_slash_is_no_name_of_a_run(root: Path, tmp_path: Path) -> None:
    for name in ("exp/new", "../new", "."):
        done = run_here("train", *tiny_options(root, tmp_path, trainer__name=name))
        assert done.returncode == 2 and "--trainer.output" in done.stderr
    assert not list(tmp_path.rglob("run.json"))


def test_a_missing_best_epoch_is_said_and_the_next_one_kept(run: Path) -> None:
    best = run / "checkpoints" / "best.ckpt"
    best.unlink()
    done = run_here("evaluate", "--checkpoint", str(run), "--clips", "1", "--crops", "1")
    assert done.returncode == 0, done.stderr
    assert f"{best} is missing: the last epoch is used" in done.stderr
    done = resume(run, "--optimizer.epochs", "3")
    assert done.returncode == 0, done.stderr
    assert f"{best} is missing" in done.stderr and best.is_file()


def test_a_run_without_its_record_is_still_one_of_its_kind(tmp_path: Path) -> None:
    output = tmp_path / "runs"
    assert main(["train", *image_options(output, optimizer__epochs=1)]) == 0
    run = only_run(output)
    for text in (None, "\0" * 300):
        if text is None:
            (run / "run.json").unlink()
        else:
            (run / "run.json").write_text(text)
        done = run_here("evaluate", "--checkpoint", str(run), "--output", str(tmp_path / "out"))
        assert done.returncode == 0, done.stderr


def test_a_run_begins_with_its_first_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_ucf101(tmp_path / "ucf101")
    for video in root.rglob("*.avi"):
        video.write_bytes(b"no video")
    assert main(["train", *tiny_options(root, tmp_path / "runs", data__num_workers=0)]) == 2
    failed = Run.open(only_run(tmp_path / "runs"))
    assert (failed.begun, failed.record["status"]) == (False, "failed")
    assert main(["train", "--resume", "--trainer.output", str(tmp_path / "runs")]) == 2
    assert "found no run to train on" in capsys.readouterr().err


@pytest.mark.parametrize(
    "entry",
    [
        {"finished_epochs": "x"},
        {"finished_epochs": None},
        {"lists": 3},
        {"lists": {"training": 3}},
        {"lists": {"training": {}}},
        {"resumed": 3},
        {"metrics": []},
    ],
    ids=str,
)
def test_a_record_with_entries_of_another_kind_is_one_line(run: Path, entry: dict) -> None:
    change(run, **entry)
    assert "run.json" in refused(run, "--optimizer.epochs", "3")


def test_a_folder_in_the_place_of_the_lock_is_one_line(run: Path) -> None:
    (run / ".lock").mkdir()
    assert ".lock" in refused(run, "--optimizer.epochs", "3")
