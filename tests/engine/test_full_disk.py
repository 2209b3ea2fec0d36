"""Disks that are full or may not be written to: one line, and what was written stays readable.

A limit on the size of files stands for a full disk: it needs no rights, and the errors take the
same ways.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from jsonargparse import Namespace
from safetensors.torch import save_file

from tests.processes import largest_file
from tests.tiny import metrics, only_run, record, run_here, tiny_options
from video_snl.cli.main import main
from video_snl.config.parsing import Command, run_command
from video_snl.engine.callbacks import AtomicCheckpointIO
from video_snl.errors import UserError
from video_snl.runs.trained import load_trained
from video_snl.utils.files import (
    check_file,
    check_folder,
    check_new_folder,
    replacing,
    storage_error,
    write_text,
    writing,
)


@pytest.fixture(scope="module")
def trained(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("runs")
    assert (
        main(["train", *tiny_options(root, output, optimizer__epochs=1, data__reader="pyav")]) == 0
    )
    return only_run(output)


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    errors = [line for line in done.stderr.splitlines() if "error:" in line]
    assert done.returncode == 2 and len(errors) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return errors[0]


def test_training_ends_in_one_line_and_keeps_the_epochs_before(
    trained: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    before = {path: path.read_bytes() for path in (run / "checkpoints").iterdir()}
    with largest_file(100_000):
        done = run_here("train", "--resume", str(run), "--optimizer.epochs", "2")
    assert os.strerror(errno.EFBIG) in one_line(done)
    assert {path: path.read_bytes() for path in (run / "checkpoints").iterdir()} == before
    assert load_trained(run / "checkpoints" / "last.ckpt").epoch == 0
    assert record(run)["status"] == "failed" and record(run)["finished_epochs"] == 1
    done = run_here("train", "--resume", str(run))
    assert done.returncode == 0, done.stderr
    assert len(metrics(run)) == 2


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "--clips", "1", "--crops", "1", "--output", "{out}"],
        ["publish", "-o", "{out}", "--licence", "mit"],
        pytest.param(["export", "-o", "{out}.pt2"], marks=pytest.mark.slow),
        ["explain", "{video}", "--output", "{out}"],
        pytest.param(["prepare", "--root", "{root}", "--out", "{out}"], marks=pytest.mark.slow),
    ],
    ids=lambda words: words[0],
)
def test_commands_that_write_end_in_one_line(
    trained: Path, root: Path, tmp_path: Path, words: list[str]
) -> None:
    video = str(next((root / "UCF-101").rglob("*.avi")))
    named = [word.format(out=tmp_path / "out", video=video, root=root) for word in words]
    if words[0] != "prepare":
        named += ["--checkpoint", str(trained)]
    with largest_file(6_000):
        done = run_here(*named)
    assert os.strerror(errno.EFBIG) in one_line(done)
    left = [path for path in tmp_path.rglob("*") if "partial" in path.name]
    assert not left


def test_a_folder_that_cannot_be_written_to_is_known_before_the_work(
    trained: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    options = ["--checkpoint", str(trained)]
    for words in (
        ["evaluate", "--output", str(tmp_path / "file" / "reports")],
        ["publish", "-o", str(tmp_path / "file" / "shared"), "--licence", "mit"],
        ["export", "-o", str(tmp_path / "file" / "model.pt2")],
    ):
        done = run_here(*words, *options)
        assert "is a file" in one_line(done), words


def test_places_where_no_folder_can_be_are_known_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, target in (("round", "again"), ("again", "round"), ("gone", "nowhere/at/all")):
        Path(name).symlink_to(target)
    for named in ("round", "round/new", "x" * 256, "", "new/.."):
        with pytest.raises(UserError, match=f"--output {named} "):
            check_new_folder("--output", named)
    check_new_folder("--output", "gone")  # whole_folder makes its target
    for named in ("round", "gone/x"):
        with pytest.raises(UserError, match="link to nowhere"):
            check_folder("--output", named)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_current_folder_that_was_removed_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    before = os.getcwd()
    os.chdir(tmp_path / "gone")
    try:
        (tmp_path / "gone").rmdir()
        done = run_here("publish", "--licence", "mit", "-o", "x")
    finally:
        os.chdir(before)
    assert "current folder was removed" in one_line(done)


def test_an_export_does_not_replace_its_checkpoint(trained: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.onnx"
    [best] = trained.rglob("best.ckpt") if trained.is_dir() else [trained]
    shutil.copy(best, own)
    done = run_here("export", "--checkpoint", str(own), "-o", str(own))
    assert "another file of this command" in one_line(done)
    assert own.read_bytes() == best.read_bytes()


def test_a_disk_without_a_block_is_known_before_the_work(tmp_path: Path) -> None:
    with largest_file(0):
        with pytest.raises(UserError, match="--output"):
            check_folder("--output", str(tmp_path / "new" / "folder"))
        with pytest.raises(UserError, match="-o"):
            check_file("-o", str(tmp_path / "model.pt2"), "model.pt2")
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_that_does_not_fit_says_so_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"epoch": 0}, path)
    with largest_file(100_000), pytest.raises(Exception, match=".") as raised:
        AtomicCheckpointIO().save_checkpoint({"x": torch.zeros(1_000_000)}, path)
    found = storage_error(raised.value)
    assert found.errno == errno.EFBIG and found.filename == str(path)
    assert torch.load(path, weights_only=True) == {"epoch": 0}
    assert [each.name for each in tmp_path.iterdir()] == ["last.ckpt"]


def test_errors_of_libraries_are_known_by_their_cause_or_number(tmp_path: Path) -> None:
    # (Not to /dev/full: safetensors renames a new file over it, which root may.)
    with largest_file(1000), pytest.raises(Exception, match="os error") as raised:
        save_file({"x": torch.zeros(1_000_000)}, tmp_path / "x.safetensors")
    found = storage_error(raised.value)
    assert found.errno == errno.EFBIG
    with pytest.raises(UserError, match="cannot be written"), writing("-o", "model"):
        raise raised.value
    wrapped = RuntimeError("in a loop")
    wrapped.__cause__ = OSError(errno.EROFS, "Read-only file system")
    assert storage_error(wrapped) is wrapped.__cause__
    assert storage_error(ValueError("another")) is None
    assert storage_error(FileNotFoundError(errno.ENOENT, "none")) is None


@dataclass
class _None:
    """No options."""


def toy(command: Callable[[Namespace], int]) -> int:
    """A program with one command."""
    commands = {"say": Command("Say.", _None, command)}
    return run_command("toy", "", commands, ["say"], lambda parser, name, words: words)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_output_that_cannot_be_written_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert toy(lambda arguments: print("said") or 0) == 2
    said = capsys.readouterr().err
    assert os.strerror(errno.ENOSPC) in said and len(said.splitlines()) == 1


@pytest.mark.parametrize("number", [errno.EROFS, errno.EIO, errno.EDQUOT, errno.EACCES])
def test_a_broken_disk_is_one_line(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    def write(arguments: Namespace) -> int:
        raise OSError(number, os.strerror(number), "/data/file")

    assert toy(write) == 2
    said = capsys.readouterr().err
    assert "/data/file: " + os.strerror(number) in said and len(said.splitlines()) == 1


def test_what_is_no_fault_of_a_disk_keeps_its_traceback() -> None:
    def fail(arguments: Namespace) -> int:
        try:
            raise PermissionError(errno.EACCES, "of something that is tried")
        except OSError:
            raise ValueError("a fault of ours") from None

    with pytest.raises(ValueError, match="of ours"):
        toy(fail)


def test_a_small_disk(tmp_path: Path) -> None:
    """A real one, where this process may mount it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this process may not mount a small file system")
    try:
        write_text(disk / "kept.txt", "kept")
        with pytest.raises(OSError, match="No space"):
            write_text(disk / "kept.txt", "x" * 200_000)
        assert (disk / "kept.txt").read_text() == "kept"
        assert [path.name for path in disk.iterdir()] == ["kept.txt"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_names_of_any_length_have_room_for_a_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / f"{'é' * 120}.json"
    with replacing(path) as temporary:
        temporary.write_text("whole")
    assert path.read_text() == "whole"


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(UserError, match="no file"):
        write_text(pipe, "text")
    assert pipe.is_fifo()
