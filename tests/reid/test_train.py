"""A whole run in one process: what it writes, resuming, and what is refused."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor

from reid.task import TrackletTask
from reid.task_spec import REID
from reid.trained import load_trained
from tests.reid.little import options, run, write_folder
from tests.tiny import environment, only_run, record
from tests.tiny import metrics as rows
from video_snl.runs.run import Run
from video_snl.runs.trained import read_checkpoint


def test_run_folder_is_complete(trained: Path) -> None:
    found = {str(path.relative_to(trained)) for path in trained.rglob("*") if path.is_file()}
    assert found >= {
        "run.json",
        "config.yaml",
        "metrics.csv",
        "learning_curves.png",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
    }
    values = record(trained)
    assert (values["program"], values["status"]) == ("reid", "finished")
    history = rows(trained)
    assert [row["epoch"] for row in history] == [1, 2]
    assert values["metrics"]["best"]["val/mAP"] == max(row["val/mAP"] for row in history)
    for row in history:
        assert row["train/loss"] == pytest.approx(row["train/cross_entropy"] + row["train/triplet"])


def test_checkpoint_alone_rebuilds_the_network(trained: Path) -> None:
    path = trained / "checkpoints" / "last.ckpt"
    content = read_checkpoint(path, REID)
    assert content["reid"]["people"] == [1, 2, 3, 4]
    network = load_trained(path)
    assert (network.finished_epochs, network.people, len(network.digest)) == (2, [1, 2, 3, 4], 64)
    with torch.no_grad():
        output = network.model(torch.zeros(1, 3, 2, 32, 16))
    assert output.logits.shape == (1, 4) and output.features.shape[1] == network.model.feature_dim


def test_worker_processes_and_an_interruption_change_nothing(
    trained: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = TrackletTask.training_step

    def stopped(task: TrackletTask, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        if task.current_epoch == 1:
            raise KeyboardInterrupt
        return step(task, batch, batch_idx)

    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(TrackletTask, "training_step", stopped)
        try:
            done = run("train", *options(dataset, tmp_path, data__num_workers=2))
        finally:
            signal.signal(signal.SIGINT, before)  # which Lightning ignores from then on
    assert done.returncode == 130 and "interrupted after 1 finished epoch" in done.stderr
    assert record(only_run(tmp_path))["status"] == "interrupted"
    done = run("train", "--resume", "--trainer.output", str(tmp_path))
    assert done.returncode == 0 and "resuming" in done.stderr, done.stderr
    assert rows(only_run(tmp_path)) == rows(trained)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_signals_end_a_run_in_order(dataset: Path, tmp_path: Path, number: int, code: int) -> None:
    words = options(dataset, tmp_path, optimizer__epochs=40)
    process = subprocess.Popen(
        [sys.executable, "-m", "reid", "train", *words],
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    )
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith("epoch 1/"):
            os.killpg(process.pid, number)
    assert process.wait(60) == code and "Traceback" not in "".join(said)
    folder = only_run(tmp_path)
    assert record(folder)["status"] == "interrupted"
    assert f"reid train --resume {folder}" in said[-1]
    finished = len(rows(folder))
    words = ["--optimizer.epochs", str(finished + 1)]
    assert run("train", "--resume", str(folder), *words).returncode == 0
    assert len(rows(folder)) == finished + 1


def test_all_training_options_together(dataset: Path, tmp_path: Path) -> None:
    words = options(
        dataset,
        tmp_path,
        model__block="snl",
        model__head="attention",
        model__dropout=0.2,
        optimizer__ema_decay=0.9,
        optimizer__gradient_clip=1.0,
        optimizer__accumulate=2,
        optimizer__warmup_epochs=1,
        optimizer__center_weight=0.001,
        optimizer__triplet_margin="null",
        optimizer__frozen_stages="[conv1]",
        optimizer__backbone_lr_factor=0.5,
        optimizer__validate_every=2,
        trainer__precision="bf16-mixed",
        trainer__channels_last="false",
        trainer__loggers="[csv, tensorboard]",
    )
    done = run("train", *words)
    assert done.returncode == 0, done.stderr
    folder = only_run(tmp_path)
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    averaged, current = content["state_dict"], content["current_model_state"]
    classifier, frozen = "model.classifier.weight", "model.trunk.conv1.conv.weight"
    assert not torch.equal(averaged[classifier], current[classifier])
    torch.testing.assert_close(averaged[frozen], current[frozen])
    shown = [line for line in done.stderr.splitlines() if line.startswith("epoch ")]
    assert "val mAP" not in shown[0] and "val mAP" in shown[1]
    assert re.search(r"last epoch \(2\): rank-1 \d", done.stderr)


def test_unreadable_pictures_are_counted(dataset: Path, tmp_path: Path) -> None:
    root = tmp_path / "people"
    shutil.copytree(dataset, root)
    for frame in (root / "train/0001/c0/t0").iterdir():
        frame.write_bytes(b"no image")
    for camera in (0, 1):
        next((root / f"train/0002/c{camera}/t0").iterdir()).write_bytes(b"no image")
    for frame in (root / "query/101/c0/t0").iterdir():
        frame.unlink()
        frame.write_bytes(b"")
    done = run("train", *options(root, tmp_path / "runs", data__tracklets=4))
    assert done.returncode == 0, done.stderr
    assert "tracklets that could not be read: 1 training, 1 test" in done.stderr
    assert "queries count as wrong" in done.stderr
    folder = only_run(tmp_path / "runs")
    assert sum(row["train/skipped_frames"] for row in rows(folder)) > 0
    assert len((folder / "quarantine.jsonl").read_text().splitlines()) == 2
    assert all(row["val/rank1"] <= 2 / 3 + 1e-6 for row in rows(folder))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__identities": 5}, "the training list has 4: lower data.identities"),
        ({"data__frames": 0}, "data.frames=0 must be at least 1"),
        ({"data__erasing": 1.5}, "data.erasing=1.5 must be from 0 to 1"),
        ({"data__num_workers": -1}, "data.num_workers=-1 must be at least 0"),
        ({"data__deadline": 0}, "data.deadline=0.0 must be above 0"),
        ({"data__split": 4}, "split 4 of folder does not exist"),
        ({"model__dropout": 2}, "model.dropout=2.0 must be from 0 to 1"),
        ({"optimizer__epochs": 0}, "optimizer.epochs=0 must be at least 1"),
        ({"optimizer__validate_every": 0}, "optimizer.validate_every=0 must be at least 1"),
        ({"optimizer__validate_every": 3}, "must divide optimizer.epochs=2"),
        ({"optimizer__learning_rate": -1}, "optimizer.learning_rate=-1.0 must be at least 0"),
        ({"optimizer__learning_rate": ".nan"}, "optimizer.learning_rate=nan must be at least 0"),
        ({"optimizer__weight_decay": -1}, "optimizer.weight_decay=-1.0 must be at least 0"),
        ({"optimizer__step_epochs": 0}, "optimizer.step_epochs=0 must be at least 1"),
        ({"optimizer__warmup_epochs": -1}, "optimizer.warmup_epochs=-1.0 must be at least 0"),
        ({"optimizer__label_smoothing": 2}, "optimizer.label_smoothing=2.0 must be from 0 to 1"),
        ({"optimizer__gradient_clip": -1}, "optimizer.gradient_clip=-1.0 must be above 0"),
        ({"optimizer__ema_decay": 3}, "optimizer.ema_decay=3.0 must be above 0 and below 1"),
        ({"optimizer__triplet_weight": -1}, "optimizer.triplet_weight=-1.0 must be at least 0"),
        ({"optimizer__center_weight": -1}, "optimizer.center_weight=-1.0 must be at least 0"),
        ({"optimizer__head_lr_factor": -1}, "optimizer.head_lr_factor=-1.0 must be at least 0"),
        ({"trainer__seed": -1}, "trainer.seed=-1 must be from 0 to"),
        ({"trainer__activation_checkpointing": "true"}, "this network has none: leave it out"),
    ],
)
def test_options_out_of_range_are_refused_before_a_run_is_made(
    dataset: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    done = run("train", *options(dataset, tmp_path / "runs", **changes))
    assert done.returncode == 2
    assert message in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_positions_that_do_not_exist_are_refused(dataset: Path, tmp_path: Path) -> None:
    changes = {"model__positions": "[after:nowhere]", "model__block": "snl"}
    done = run("train", *options(dataset, tmp_path / "runs", **changes))
    assert done.returncode == 2
    assert "nowhere" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_weights_that_cannot_be_used_leave_no_run(dataset: Path, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    for content in (None, b"no weights", {"fc.weight": torch.zeros(4, 3)}):
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content is not None:
            torch.save(content, path)  # of another network
        done = run("train", *options(dataset, tmp_path / "runs", model__weights=path))
        assert done.returncode == 2 and "w.pth" in done.stderr.splitlines()[-1], done.stderr
        assert "run folder" not in done.stderr and not (tmp_path / "runs").exists()


def test_diverging_loss_names_the_tracklets(dataset: Path, tmp_path: Path) -> None:
    done = run("train", *options(dataset, tmp_path, optimizer__learning_rate=1e30))
    assert done.returncode == 2
    assert "the loss became nan" in done.stderr and "train/000" in done.stderr
    assert record(only_run(tmp_path))["status"] == "failed"


def test_resume_refuses_other_people_and_other_programs(trained: Path, tmp_path: Path) -> None:
    other = write_folder(tmp_path / "other", identities=5)
    done = run("train", "--resume", str(trained), "--root", str(other))
    assert done.returncode == 2 and "was trained on 4 other identities than the 5" in done.stderr
    from video_snl.cli.main import main

    assert main(["train", "--resume", str(trained)]) == 2


def test_data_sets_that_cannot_be_trained_on_are_refused(dataset: Path, tmp_path: Path) -> None:
    root = tmp_path / "people"
    shutil.copytree(dataset, root)
    shutil.rmtree(root / "train")
    done = run("train", *options(root, tmp_path / "runs"))
    assert done.returncode == 2 and "no training tracklets" in done.stderr
    shutil.copytree(dataset / "train", root / "train")
    for person in (101, 102, 103):
        shutil.rmtree(root / "gallery" / str(person))
    done = run("train", *options(root, tmp_path / "runs"))
    assert done.returncode == 2 and "none of the 3 queries" in done.stderr


def test_changed_tracklets_and_batches_are_refused(
    trained: Path, dataset: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / "runs" / "copy"))
    config = record(folder)["config"]
    config["data"]["tracklets"] = 1
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(config))
    words = ["train", "--resume", str(folder)]
    done = run(*words, "--config", str(tmp_path / "other.yaml"))
    assert done.returncode == 2 and "--data.tracklets 1" in done.stderr
    other = Path(shutil.copytree(dataset, tmp_path / "people"))
    config["data"] |= {"root": str(other), "tracklets": 2}
    (folder / "run.json").write_text(json.dumps({**record(folder), "config": config}))
    assert run(*words).returncode == 0
    shutil.rmtree(other / "train" / "0001" / "c0" / "t0")
    done = run(*words)
    assert done.returncode == 2 and "training list" in done.stderr
    (folder / "checkpoints" / "last.ckpt").unlink()
    done = run(*words, "--force")
    assert done.returncode == 2 and "last.ckpt is missing" in done.stderr


def test_runs_without_a_checkpoint_are_passed_over(trained: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / "runs" / "copy"))
    values = record(folder) | {"status": "interrupted"}
    (folder / "run.json").write_text(json.dumps(values))
    failed = Run.create(tmp_path / "runs", "failed", Run.open(folder, REID).experiment, REID)
    words = ["--trainer.output", str(tmp_path / "runs"), "--test_frames", "1"]
    done = run("evaluate", "--dataset", "folder", *words)
    assert done.returncode == 0, done.stderr
    assert f"of {folder / 'checkpoints'}" in done.stdout
    assert done.stderr.count(f"passing over {failed.folder}") == 1
    assert f"taking {folder}: interrupted after 2 epochs" in done.stderr
    done = run("train", "--resume", *words[:2])
    assert done.returncode == 0 and f"resuming {folder}" in done.stderr
