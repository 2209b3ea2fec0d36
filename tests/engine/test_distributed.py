"""Two processes (gloo, CPU) train like one with the same global batch."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.test_interruption import metrics
from tests.tiny import only_run, run_command, tiny_options
from tests.videos import write_ucf101
from video_snl.cli import main


def test_two_processes_have_the_loss_curve_of_one(tmp_path: Path) -> None:
    root = write_ucf101(tmp_path / "ucf101")
    # BatchNorm would see half a batch in each process; frozen, the batch is a sum over clips.
    shared = {"optimizer__frozen_batchnorm": "true", "model__block": "none"}
    assert main(["train", *tiny_options(root, tmp_path / "one", **shared)]) == 0
    two = run_command("train", *tiny_options(root, tmp_path / "two", trainer__devices=2, **shared))
    assert two.returncode == 0, two.stderr
    assert two.stderr.count("reader auto: ") == 1  # one process measures for both
    expected, ours = metrics(only_run(tmp_path / "one")), metrics(only_run(tmp_path / "two"))
    assert len(ours) == len(expected) == 3
    for row, wanted in zip(ours, expected, strict=True):
        assert row == pytest.approx(wanted, rel=1e-4, abs=1e-5)
