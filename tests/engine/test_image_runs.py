"""Classification of images on the shared engine: training, resuming, evaluation, prediction."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.image_trees import noise_image, write_folders
from tests.tiny import metrics, only_run, record, run_command, run_here
from tests.tiny_images import experiment, image_options
from video_snl.cli.main import main
from video_snl.config.files import Given
from video_snl.config.image import ImageDataConfig
from video_snl.config.statistics import STATISTICS
from video_snl.config.task import recognise_task
from video_snl.config.task_spec import IMAGE, exact_spec
from video_snl.data.image.catalog import load_images
from video_snl.data.image.inference import read_input
from video_snl.data.image.small import digits
from video_snl.errors import UserError
from video_snl.runs.trained import load_trained


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("runs")
    assert main(["train", *image_options(output)]) == 0
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
    values = record(run)
    assert values["status"] == "finished" and values["program"] == "video-snl on pictures"
    history = metrics(run)
    assert values["metrics"]["last"]["epoch"] == 3
    best = max(row["val/top1"] for row in history)
    assert values["metrics"]["best"]["val/top1"] == pytest.approx(best)


def test_an_epoch_has_the_steps_it_was_given(run: Path) -> None:
    with (run / "metrics.csv").open(encoding="utf-8") as lines:
        assert [float(row["loading/clips"]) for row in csv.DictReader(lines)] == [32, 32, 32]


def test_checkpoint_alone_answers_as_evaluate_says(run: Path, tmp_path: Path) -> None:
    trained = load_trained(run / "checkpoints" / "last.ckpt", IMAGE)
    images, labels, _ = digits(False)
    mean, std = (torch.tensor(x)[:, None, None] for x in (trained.mean, trained.std))
    with torch.no_grad():
        logits = trained.model((images.permute(0, 3, 1, 2) / 255 - mean) / std)
    right = (logits.argmax(1) == labels).float().mean().item()
    words = ["--checkpoint", str(run / "checkpoints" / "last.ckpt"), "--output", str(tmp_path)]
    assert main(["evaluate", *words]) == 0
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert found["top1"] == pytest.approx(right)
    assert found["top1"] == pytest.approx(metrics(run)[-1]["val/top1"])
    assert found["pictures"] == 355 and found["epoch"] == 3 and found["unreadable"] == []
    with (tmp_path / "predictions.csv").open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    assert [int(row["prediction"]) for row in rows] == logits.argmax(1).tolist()
    assert [int(row["true class"]) for row in rows] == labels.tolist()
    assert (tmp_path / "confusion_image.png").is_file()


def test_its_config_file_repeats_the_run_exactly(run: Path, tmp_path: Path) -> None:
    words = ["--config", str(run / "config.yaml"), "--trainer.output", str(tmp_path)]
    assert main(["train", *words]) == 0
    assert metrics(only_run(tmp_path)) == metrics(run)


def test_resumed_run_ends_as_the_unbroken_one(run: Path, tmp_path: Path) -> None:
    options = {"optimizer__schedule": "milestones", "optimizer__milestones": "[0.5, 1.5]"}
    whole = image_options(tmp_path / "whole", **options, optimizer__epochs=2)
    assert main(["train", *whole]) == 0
    broken = tmp_path / "broken"
    assert main(["train", *image_options(broken, **options, optimizer__epochs=1)]) == 0
    words = ["--resume", "--trainer.output", str(broken), "--optimizer.epochs", "2"]
    assert main(["train", *words]) == 0  # of images, which the run itself says
    unbroken, resumed = metrics(only_run(tmp_path / "whole")), metrics(only_run(broken))
    assert unbroken == resumed
    assert [row["learning_rate"] for row in unbroken] == pytest.approx([0.002, 0.0002])


@pytest.mark.slow
def test_two_processes_have_the_loss_curve_of_one(tmp_path: Path) -> None:
    # BatchNorm would see half a batch in each process; frozen, the batch is a sum over images.
    shared: dict[str, Any] = {"optimizer__frozen_batchnorm": "true", "model__block": "none"}
    shared |= {"optimizer__epochs": 2, "trainer__sync_batchnorm": "false"}
    assert main(["train", *image_options(tmp_path / "one", **shared)]) == 0
    words = image_options(tmp_path / "two", trainer__devices=2, **shared)
    two = run_command("train", *words)
    assert two.returncode == 0, two.stderr
    expected, ours = metrics(only_run(tmp_path / "one")), metrics(only_run(tmp_path / "two"))
    assert len(ours) == len(expected) == 2
    for row, wanted in zip(ours, expected, strict=True):
        assert row == pytest.approx(wanted, rel=1e-4, abs=1e-5)


def test_all_training_options_together(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "images")
    options = {
        "data__dataset": "folder",
        "data__root": root,
        "data__height": 32,
        "data__width": 32,
        "data__short_side": 36,
        "data__training_crop": "resized",
        "data__flip": "true",
        "data__color_jitter": 0.4,
        "data__rand_augment": 1,
        "data__num_workers": 2,
        "model__stages": "[1, 2, 3]",
        "model__reduction": 4,
        "model__dropout": 0.5,
        "optimizer__epochs": 2,
        "optimizer__batch_size": 4,
        "optimizer__accumulate": 2,
        "optimizer__nesterov": "true",
        "optimizer__schedule": "poly",
        "optimizer__least_learning_rate": 0.001,
        "optimizer__warmup_epochs": 1,
        "optimizer__label_smoothing": 0.1,
        "optimizer__gradient_clip": 1.0,
        "optimizer__ema_decay": 0.9,
        "optimizer__frozen_stages": "[stem, layer1]",
        "trainer__activation_checkpointing": "true",
        "trainer__channels_last": "false",
    }
    words = image_options(tmp_path / "runs", model__backbone="preresnet20", **options)
    assert main(["train", *words, "--profile"]) == 0
    run = only_run(tmp_path / "runs")
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    first, last = (
        {name: value for name, value in content["state_dict"].items() if name.startswith(part)}
        for part in ("model.layer1.0", "model.fc")
    )
    assert first and last and "current_model_state" in content
    assert main(["evaluate", "--checkpoint", str(run)]) == 0


def test_pictures_that_cannot_be_read(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "images", train=6, tests=4)
    for part in ("train", "test"):
        (root / part / "cat" / "001.jpg").write_bytes(b"no image")
    options = {
        "data__dataset": "folder",
        "data__root": root,
        "data__short_side": 32,
        "data__num_workers": 0,
        "model__backbone": "preresnet20",
        "optimizer__epochs": 1,
        "optimizer__batch_size": 6,
    }
    done = run_here("train", *image_options(tmp_path / "runs", **options))
    assert done.returncode == 0, done.stderr
    assert "images that could not be read: 1 training, 1 test" in done.stderr
    run = only_run(tmp_path / "runs")
    quarantine = (run / "quarantine.jsonl").read_text().splitlines()
    assert {Path(json.loads(line)["path"]).parts[-3] for line in quarantine} == {"train", "test"}
    found = {}
    for how in ("wrong", "skip"):
        words = ["--checkpoint", str(run), "--output", str(tmp_path / how), "--unreadable", how]
        done = run_here("evaluate", *words)
        assert done.returncode == 0 and "could not be read: 1" in done.stdout
        found[how] = json.loads((tmp_path / how / "metrics.json").read_text())
        assert len(found[how]["unreadable"]) == found[how]["unreadable_count"] == 1
    assert found["wrong"]["top1"] * 8 == pytest.approx(found["skip"]["top1"] * 7)
    assert found["wrong"]["top1"] == pytest.approx(metrics(run)[-1]["val/top1"])


def test_statistics_of_evaluation_are_those_of_the_checkpoint(run: Path, tmp_path: Path) -> None:
    words = ["--checkpoint", str(run), "--output", str(tmp_path), "--data.statistics"]
    done = run_here("evaluate", *words, "imagenet")
    assert done.returncode == 2 and "data.statistics=imagenet" in done.stderr
    assert "was trained with the mean (0.3051, " in done.stderr
    for same in ("digits", "auto"):
        assert run_here("evaluate", *words, same).returncode == 0


def test_a_run_is_trained_on_with_the_statistics_that_are_named(run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run, tmp_path / "run")
    words = ["train", "--resume", str(folder), "--optimizer.epochs"]
    assert main([*words, "4"]) == 0
    known = load_trained(run / "checkpoints" / "last.ckpt", IMAGE).statistics
    last = folder / "checkpoints" / "last.ckpt"
    assert load_trained(last, IMAGE).statistics == known != STATISTICS["imagenet"]
    assert main([*words, "5", "--data.statistics", "imagenet"]) == 0
    assert load_trained(last, IMAGE).statistics == STATISTICS["imagenet"]
    words = ["--checkpoint", str(folder), "--output", str(tmp_path / "evaluation")]
    assert main(["evaluate", *words]) == 0


def test_a_run_of_another_task_is_not_evaluated(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--checkpoint", str(run), "--output", str(tmp_path)]
    assert main(["evaluate", *words, "--task", "segmentation"]) == 2
    assert "task: segmentation does not go with" in capsys.readouterr().err


@pytest.mark.parametrize("short_side", [None, 36])
def test_predict_sees_what_evaluate_sees(run: Path, tmp_path: Path, short_side: int | None) -> None:
    root = write_folders(tmp_path / "images")
    data = ImageDataConfig(dataset="folder", root=str(root), short_side=short_side)
    trained = load_trained(run / "checkpoints" / "last.ckpt", IMAGE)
    digit = trained.experiment.data
    trained.experiment.data = data
    test = load_images(data).test
    for index, path in enumerate(test.paths):
        assert torch.equal(read_input(Path(path), trained.experiment.data), test[0, index]["image"])
    small = tmp_path / "small.png"
    noise_image(1, 24, 48).save(small)
    if short_side is None:
        with pytest.raises(UserError, match=r"small\.png has 24 x 48 pixels.*enlarge the image"):
            read_input(small, trained.experiment.data)
    trained.experiment.data = digit  # resized: the set has one size alone
    assert read_input(small, trained.experiment.data).shape == (32, 32, 3)


def test_predict_goes_on_behind_a_picture_that_cannot_be_rendered(
    run: Path, tmp_path: Path
) -> None:
    sources, target = tmp_path / "images", tmp_path / "rendered"
    sources.mkdir()
    for i in range(3):
        noise_image(i).save(sources / f"{i}.png")
    (target / "1.png").mkdir(parents=True)  # in the way
    words = ["--checkpoint", str(run), "--render", str(target), "--json"]
    done = run_here("predict", str(sources), *words)
    assert done.returncode == 1, done.stderr
    assert f"--render {target / '1.png'} cannot be written" in done.stderr
    found = json.loads(done.stdout)
    assert [Path(row["picture"]).name for row in found] == ["0.png", "1.png", "2.png"]
    assert [row.get("rendered") for row in found] == [
        str(target / "0.png"), None, str(target / "2.png")
    ]  # fmt: skip
    assert (target / "2.png").is_file()
    (sources / "0.png").write_bytes(b"no image")
    assert run_here("predict", str(sources), *words).returncode == 2


def test_predict_names_what_is_on_pictures(run: Path, tmp_path: Path) -> None:
    images, labels, _ = digits(False)
    for i in range(3):
        Image.fromarray(images[i].numpy()).save(tmp_path / f"{i}.png")
    noise_image(0).save(tmp_path / "larger.jpg")
    (tmp_path / "bad.png").write_bytes(b"no image")
    words = ["--checkpoint", str(run), "--top", "2", "--json"]
    done = run_here("predict", str(tmp_path), *words)
    assert done.returncode == 2 and "bad.png" in done.stderr and "Traceback" not in done.stderr
    found = json.loads(done.stdout)
    assert [Path(row["picture"]).name for row in found] == ["0.png", "1.png", "2.png", "larger.jpg"]
    trained = load_trained(run / "checkpoints" / "best.ckpt", IMAGE)
    little = run_here("predict", str(tmp_path / "larger.jpg"), *words, "--max_pixels", "100")
    assert little.returncode == 2 and "max_pixels=100" in little.stderr
    mean, std = (torch.tensor(x)[:, None, None] for x in (trained.mean, trained.std))
    with torch.no_grad():
        logits = trained.model((images[:3].permute(0, 3, 1, 2) / 255 - mean) / std)
    expected, classes = logits.softmax(1).topk(2)
    for row, scores, names in zip(found, expected.tolist(), classes.tolist(), strict=False):
        assert [guess["class"] for guess in row["predictions"]] == [str(name) for name in names]
        assert [g["score"] for g in row["predictions"]] == pytest.approx(scores, abs=1e-5)


def test_predict_says_what_a_folder_holds_besides_images(run: Path, tmp_path: Path) -> None:
    noise_image(0).save(tmp_path / os.fsdecode(b"\xff.BMP"), format="BMP")
    noise_image(0).save(tmp_path / "b.webp")
    (tmp_path / "._b.webp").write_bytes(b"of a system")
    (tmp_path / "notes.txt").write_text("no image")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "gone.tif").symlink_to("nowhere")
    done = run_here("predict", str(tmp_path), "--checkpoint", str(run), "--accelerator", "cpu")
    assert done.returncode == 0, done.stderr
    assert "\\xff.BMP" in done.stdout and "b.webp" in done.stdout
    assert "ignored 3" in done.stderr and "notes.txt" in done.stderr


def test_commands_know_pictures_from_videos(run: Path, tmp_path: Path) -> None:
    def task(*words: str) -> str | None:
        return recognise_task(Given(words).said, "video-snl train")

    assert task("--model.backbone", "resnet50") == "image"
    assert task("--data.dataset=cub200") == "image"
    assert task("--data.dataset=cityscapes") == "segmentation"
    assert task("--model.backbone", "i3d_small") == "video"
    assert task("--data.dataset", "folder") is None
    assert task() is None
    config = tmp_path / "config.yaml"
    config.write_text("model: {backbone: preresnet20}\ndata: {dataset: folder}")
    assert task("--config", str(config)) == "image"
    assert task("--config", str(config), "--model.backbone", "i3d_r50") == "video"
    described = run_here("describe", "--model.backbone", "preresnet20", "--json")
    assert json.loads(described.stdout)["parameters"] == 272_954
    done = run_here("evaluate", "--checkpoint", str(run), "--task=video")
    assert done.returncode == 2 and "task: video" in done.stderr and "of images" in done.stderr
    words = ["--checkpoint", str(run), "--model.backbone", "preresnet56"]
    done = run_here("evaluate", *words)
    assert done.returncode == 2 and "holds another network" in done.stderr


def test_help_imports_no_torch() -> None:
    words = ["-X", "importtime", "-m", "video_snl", "train", "--model.backbone", "resnet50", "-h"]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "epoch_steps" in done.stdout
    assert not any(line.split("|")[-1].strip() == "torch" for line in done.stderr.splitlines())


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"optimizer": {"epoch_steps": 0}}, "optimizer.epoch_steps=0 must be at least 1"),
        ({"optimizer": {"drop": 1.0}}, "optimizer.drop=1.0 must be above 0 and below 1"),
        ({"optimizer": {"milestones": [2, 1]}}, "ascending order"),
        ({"optimizer": {"nesterov": True, "momentum": 0}}, "needs optimizer.momentum above 0"),
        ({"optimizer": {"least_learning_rate": 1}}, "is above optimizer.learning_rate=0.1"),
        ({"data": {"dataset": "cityscapes"}}, "the backbone must be fcn_r50_d8"),
        ({"model": {"backbone": "fcn_r50_d8"}}, "one label for an image"),
        ({"data": {"dataset": "folder", "height": 2}}, "at least 4 pixels a side"),
        ({"data": {"flip": False, "hue_jitter": 0.7}}, "hue_jitter"),
    ],
)
def test_senseless_options_are_refused(sections: Any, message: str) -> None:
    with pytest.raises(UserError, match=message.replace(".", r"\.")):
        options = experiment(**sections)
        exact_spec(IMAGE, options).make().check_options(options)


def test_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    done = run_here("train", *image_options(tmp_path, model__num_classes=7))
    assert done.returncode == 2 and "the dataset has 10 classes" in done.stderr
    assert not list(tmp_path.iterdir())
