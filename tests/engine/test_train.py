"""A whole run in one process: what it writes, and every training option at work."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.tiny import metrics, only_run, record, tiny_options
from tests.videos import write_ucf101
from video_snl.cli.main import main
from video_snl.config.video import Experiment
from video_snl.data.loading.prefetch import DevicePrefetcher
from video_snl.engine.callbacks import History
from video_snl.runs.run import Run
from video_snl.runs.trained import load_trained
from video_snl.utils.timing import STAGES


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("runs")
    assert main(["train", *tiny_options(root, output)]) == 0
    return only_run(output)


def test_run_folder_is_complete(run: Path) -> None:
    found = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    assert found == {
        "run.json",
        "config.yaml",
        "metrics.csv",
        "learning_curves.png",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
    }
    with Image.open(run / "learning_curves.png") as image:
        assert image.width > 800


def test_record_holds_last_and_best_epoch(run: Path) -> None:
    values = record(run)
    assert values["status"] == "finished"
    assert values["metrics"]["last"]["epoch"] == 3
    history = metrics(run)
    assert [row["epoch"] for row in history] == [1, 2, 3]
    best = max(row["val/top1"] for row in history)
    assert values["metrics"]["best"]["val/top1"] == pytest.approx(best)


def test_checkpoint_alone_rebuilds_the_network(run: Path) -> None:
    trained = load_trained(run / "checkpoints" / "last.ckpt")
    assert trained.class_names == ["Bow", "Clap", "Dive"]
    assert not trained.model.training
    assert trained.model(torch.zeros(1, 3, 4, 32, 32)).shape == (1, 3)


def test_its_config_file_repeats_the_run_exactly(run: Path, tmp_path: Path) -> None:
    words = ["--config", str(run / "config.yaml"), "--trainer.output", str(tmp_path)]
    assert main(["train", *words]) == 0
    assert metrics(only_run(tmp_path)) == metrics(run)


def test_worker_processes_change_nothing(run: Path, root: Path, tmp_path: Path) -> None:
    assert main(["train", *tiny_options(root, tmp_path, data__num_workers=2)]) == 0
    assert metrics(only_run(tmp_path)) == metrics(run)


def test_resuming_a_finished_run_trains_no_further(run: Path) -> None:
    before = metrics(run)
    assert main(["train", "--resume", str(run)]) == 0
    assert metrics(run) == before


def test_resume_takes_the_newest_run_and_more_epochs(root: Path, tmp_path: Path) -> None:
    options = {"optimizer__schedule": "step", "optimizer__epochs": 2}
    assert main(["train", *tiny_options(root, tmp_path, **options)]) == 0
    words = ["--trainer.output", str(tmp_path), "--optimizer.epochs", "3"]
    assert main(["train", "--resume", *words]) == 0
    whole = tmp_path / "whole"
    assert main(["train", *tiny_options(root, whole, optimizer__schedule="step")]) == 0
    assert metrics(only_run(tmp_path)) == metrics(only_run(whole))


def test_resume_refuses_another_model(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--resume", str(run), "--model.block", "none"]) == 2
    assert "another model or seed" in capsys.readouterr().err


def test_accumulation_gives_the_same_gradient_as_the_whole_batch(
    root: Path, tmp_path: Path
) -> None:
    # With BatchNorm frozen a batch is the sum of its parts.
    frozen = {"optimizer__frozen_batchnorm": "true", "model__block": "none"}
    frozen["optimizer__epochs"] = "1"
    for name, parts in (("whole", 1), ("parts", 3)):
        options = tiny_options(root, tmp_path / name, optimizer__accumulate=parts, **frozen)
        assert main(["train", *options]) == 0
    whole, parts = (
        torch.load(only_run(tmp_path / name) / "checkpoints" / "last.ckpt", weights_only=True)
        for name in ("whole", "parts")
    )
    for name, value in whole["state_dict"].items():
        torch.testing.assert_close(parts["state_dict"][name], value, rtol=1e-4, atol=1e-5)


def test_all_training_options_together(root: Path, tmp_path: Path) -> None:
    options = tiny_options(
        root,
        tmp_path,
        optimizer__epochs=2,
        optimizer__ema_decay=0.9,
        optimizer__gradient_clip=1.0,
        optimizer__warmup_epochs=1,
        optimizer__label_smoothing=0.1,
        optimizer__frozen_stages="[stem, res2]",
        optimizer__block_lr_factor=2.0,
        model__dropout=0.5,
        trainer__activation_checkpointing="true",
        trainer__channels_last="false",
        data__clip_frames=8,  # of 4, some CPUs have wrong gradients in bfloat16
        data__short_videos="wrap",
        trainer__precision="bf16-mixed",
        trainer__loggers="[csv, tensorboard]",
    )
    assert main(["train", *options]) == 0
    run = only_run(tmp_path)
    assert list((run / "tensorboard").glob("events.out.tfevents.*"))
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    averaged, current = content["state_dict"], content["current_model_state"]
    head = "model.blocks.5.proj.weight"
    assert not torch.equal(averaged[head], current[head])
    frozen = "model.blocks.0.conv.weight"
    torch.testing.assert_close(averaged[frozen], current[frozen])
    assert main(["evaluate", "--checkpoint", str(run), "--clips", "1", "--crops", "1"]) == 0


def test_all_augmentations_together_whatever_the_workers(root: Path, tmp_path: Path) -> None:
    options = {
        "data__sampling": "uniform",
        "data__crop_scales": "[1, 0.75]",
        "data__color_jitter": 0.4,
        "data__hue_jitter": 0.1,
        "data__rand_augment": 2,
        "optimizer__mixup": 0.2,
        "optimizer__cutmix": 1.0,
        "optimizer__epochs": 1,
    }
    for workers in (0, 2):
        words = tiny_options(root, tmp_path / str(workers), data__num_workers=workers, **options)
        assert main(["train", *words]) == 0
    alone, spread = (metrics(only_run(tmp_path / str(workers))) for workers in (0, 2))
    assert alone == spread
    words = ["--clips", "2", "--crops", "1"]
    assert main(["evaluate", "--checkpoint", str(only_run(tmp_path / "0")), *words]) == 0


def test_senseless_augmentation_is_refused_before_a_run(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for option, message in (
        ({"data__hue_jitter": 0.7}, "data.hue_jitter=0.7: give 0 to 0.5"),
        ({"optimizer__mixup": -1}, "optimizer.mixup=-1.0 must be at least 0"),
        ({"optimizer__cutmix": 1, "optimizer__accumulate": 6}, "optimizer.cutmix mixes"),
    ):
        assert main(["train", *tiny_options(root, tmp_path, **option)]) == 2
        assert message in capsys.readouterr().err


def test_profile_says_where_loading_took_time(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"optimizer__epochs": 2, "data__num_workers": 1}
    assert main(["train", *tiny_options(root, tmp_path, **options), "--profile"]) == 0
    shown = capsys.readouterr().err.splitlines()
    epochs = [i for i, line in enumerate(shown) if line.startswith("epoch ")]
    assert len(epochs) == 2
    for i in epochs:
        assert re.search(r"  data wait \d+%", shown[i])
        number = r"\d+\.\d\d"
        stages = "  ".join(f"{name} {number}" for name in STAGES)
        assert re.fullmatch(
            rf"  loading: 12 clips, \d+\.\d clips/s; waited {number} s of {number} \(\d+%\); "
            rf"seconds: {stages}",
            shown[i + 1],
        )
    run = only_run(tmp_path)
    with (run / "metrics.csv").open(encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            values = {
                name.removeprefix("loading/"): float(value)
                for name, value in row.items()
                if name.startswith("loading/")
            }
            assert values.keys() == {*STAGES, "clips", "clips_per_second", "wait", "wait_share"}
            assert values["clips"] == 12 and values["clips_per_second"] > 0
            assert 0 < values["wait_share"] <= 1
            assert all(values[name] > 0 for name in ("decode", "copy", "transform"))
    assert record(run)["metrics"]["last"]["loading/clips"] == 12


def test_epoch_line_without_profile(
    run: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *tiny_options(root, tmp_path, optimizer__epochs=1)]) == 0
    shown = capsys.readouterr().err
    assert re.search(r"s  data wait \d+%", shown) and "decode" not in shown


def test_history_of_a_run_from_before_there_was_a_profile(tmp_path: Path) -> None:
    history = History(Run.create(tmp_path, "old", Experiment()))
    history.rows = [{"epoch": 1.0}, {"epoch": 2.0, "loading/wait": 0.5}]
    history._write()
    text = (history.run.folder / "metrics.csv").read_text().splitlines()
    assert text == ["epoch,loading/wait", "1.0,", "2.0,0.5"]


def test_batches_copied_ahead_change_nothing(
    run: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning takes the prefetcher of a GPU, here with copies that do nothing, for the loader."""

    class Copies:
        def start(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return batch

        def finish(self, handle: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return handle

    monkeypatch.setattr(
        "video_snl.tasks.datamodule.prefetched",
        lambda loader, _: DevicePrefetcher(loader, Copies()),
    )
    assert main(["train", *tiny_options(root, tmp_path, data__num_workers=1)]) == 0
    assert metrics(only_run(tmp_path)) == metrics(run)


def test_diverging_loss_names_the_videos(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = tiny_options(root, tmp_path, optimizer__learning_rate=1e30)
    assert main(["train", *options]) == 2
    error = capsys.readouterr().err
    assert "the loss became nan" in error and "_c01.avi" in error
    assert record(only_run(tmp_path))["status"] == "failed"


def test_weights_that_cannot_be_used_leave_no_run(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "w.pth"
    options = tiny_options(root, tmp_path / "runs", model__weights=path)

    def error() -> str:
        assert main(["train", *options]) == 2
        said = capsys.readouterr().err.splitlines()
        assert not (tmp_path / "runs").exists() and not any("run folder" in line for line in said)
        return said[-1]

    assert "no such file" in error()
    path.write_bytes(b"no weights")
    assert "w.pth" in error()
    torch.save({"conv1.weight": torch.zeros(4, 3, 3, 3)}, path)  # of another network
    line = error()
    assert "w.pth" in line and "conv1.weight" in line


def test_data_csv_and_folder(root: Path, tmp_path: Path) -> None:
    table = tmp_path / "videos.csv"
    videos = sorted((root / "UCF-101").rglob("*.avi"))
    table.write_text("path,label\n" + "".join(f"{p},{p.parent.name}\n" for p in videos))
    for dataset, place in (("csv", table), ("folder", root / "UCF-101")):
        options = {"data__dataset": dataset, "data__root": place, "optimizer__epochs": 1}
        assert main(["train", *tiny_options(root, tmp_path / dataset, **options)]) == 0
        trained = load_trained(only_run(tmp_path / dataset) / "checkpoints" / "last.ckpt")
        assert trained.class_names == ["Bow", "Clap", "Dive"]


def test_resume_refuses_other_classes(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_ucf101(tmp_path / "other", classes=("Run", "Sit", "Swim"))
    assert main(["train", "--resume", str(run), "--data.root", str(other)]) == 2
    assert "other classes" in capsys.readouterr().err


def test_resume_needs_the_pretrained_file_no_more(root: Path, tmp_path: Path, run: Path) -> None:
    weights = tmp_path / "start.ckpt"
    weights.write_bytes((run / "checkpoints" / "last.ckpt").read_bytes())
    options = {"model__weights": weights, "optimizer__epochs": 1}
    assert main(["train", *tiny_options(root, tmp_path / "runs", **options)]) == 0
    weights.unlink()
    words = ["--trainer.output", str(tmp_path / "runs"), "--optimizer.epochs", "2"]
    assert main(["train", "--resume", *words]) == 0
    assert len(metrics(only_run(tmp_path / "runs"))) == 2
