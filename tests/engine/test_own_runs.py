"""Runs on own videos: counted first, named after their folder, divided as when they began."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.data.test_own_videos import one_line
from tests.tiny import (
    REPOSITORY,
    command,
    environment,
    only_run,
    option_words,
    record,
    run_here,
    tiny_options,
)
from tests.videos import write_lines, write_video
from video_snl.config.backbones import VIDEO_BACKBONES
from video_snl.config.video import Experiment

FINETUNE = REPOSITORY / "configs" / "finetune"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with own videos and a run on them, to be copied."""
    place = tmp_path_factory.mktemp("made")
    clip = write_video(place / "clip.avi", 6)
    for name in ("jump", "run"):
        for recording in range(4):
            (place / "my own!" / name / f"r{recording}").mkdir(parents=True)
            shutil.copyfile(clip, place / "my own!" / name / f"r{recording}" / "0.avi")
    before = sorted((place / "my own!").rglob("*"))
    options = tiny_options(
        place / "my own!", place / "runs", data__dataset="folder", optimizer__epochs=1
    )
    (place / "plain.yaml").write_text("trainer: {seed: 0}")
    done = run_here("train", "--config", str(place / "plain.yaml"), *options)
    assert done.returncode == 0, done.stderr
    (place / "said.txt").write_text(done.stderr)
    assert sorted((place / "my own!").rglob("*")) == before  # nothing is written there
    return place


@pytest.fixture
def own(made: Path, tmp_path: Path) -> tuple[Path, Path]:
    """The videos in their place, and a copy of the run."""
    run = only_run(made / "runs")
    return made / "my own!", Path(shutil.copytree(run, tmp_path / "runs" / run.name))


def rows(run: Path) -> list[list[str]]:
    with (run / "split.csv").open(newline="", encoding="utf-8") as lines:
        return list(csv.reader(lines))


def division(reports: Path) -> dict[str, Any]:
    return dict(json.loads((reports / "metrics.json").read_text())["division"])


def evaluate(run: Path, *words: str) -> subprocess.CompletedProcess[str]:
    done = run_here("evaluate", "--checkpoint", str(run), "--clips", "1", "--crops", "1", *words)
    assert done.returncode == 0, done.stderr
    return done


def test_a_new_run_counts_its_videos_first(made: Path) -> None:
    said = (made / "said.txt").read_text().splitlines()
    [first] = [line for line in said if line.startswith("data: ")]
    assert first.endswith("2 classes, 8 videos")
    at = said.index(first)
    assert said[at + 1].split() == ["class", "train", "test", "groups,", "train", "+", "test"]
    assert said[at + 4].split() == ["all", "6", "2", "3", "+", "1"]
    assert said[at + 5].startswith("split: by recording (their folders)")
    assert at < next(i for i, line in enumerate(said) if line.startswith("run folder"))
    run = only_run(made / "runs")
    assert run.name.startswith("my_own-plain-")
    header, *videos = rows(run)
    assert header == ["path", "label", "split", "group"] and len(videos) == 8
    assert all(name == f"{label}/{group}/0.avi" for name, label, _, group in videos)
    assert record(run)["config"]["data"]["split_by"] == "group"


def test_files_that_were_added_change_no_run(own: tuple[Path, Path], tmp_path: Path) -> None:
    root, run = own
    before = rows(run)
    added = root / "run" / "r9"
    shutil.copytree(root / "run" / "r0", added)
    try:
        done = evaluate(run)
        assert done.stdout.startswith("2 test videos of 2 classes") and "r9/0.avi" in done.stderr
        assert "split of the run" in done.stderr
        done = run_here("train", "--resume", str(run), "--optimizer.epochs", "2")
        assert done.returncode == 0, done.stderr
        assert "split: that of the run" in done.stderr and rows(run) == before
        assert record(run)["lists"]["training"]["files"] == 6
        # A checkpoint alone knows the rule, not the run's files.
        copied = shutil.copyfile(run / "checkpoints" / "best.ckpt", tmp_path / "copied.ckpt")
        done = evaluate(copied, "--output", str(tmp_path / "out"))
        assert "copied.ckpt has no split.csv of its run" in done.stderr
    finally:
        shutil.rmtree(added)
    # Without new files the names say the same.
    shutil.rmtree(run / "evaluation")
    evaluate(run)
    expected = (run / "evaluation" / "predictions.csv").read_text()
    by = {"rule": "recording", "by": "their folders"}
    assert division(run / "evaluation") == by | {"file": str(run / "split.csv")}
    evaluate(copied, "--output", str(tmp_path / "out"))
    assert (tmp_path / "out" / "predictions.csv").read_text() == expected
    assert division(tmp_path / "out") == by | {"file": None}
    shutil.copytree(root, tmp_path / "moved" / "videos")
    done = evaluate(run, "--data.root", str(tmp_path / "moved" / "videos"))
    assert "does not say which videos test" in done.stderr


def publish(run: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    done = run_here("publish", "--checkpoint", str(run), "-o", str(folder))
    assert done.returncode == 0, done.stderr
    return done


def test_a_published_folder_keeps_the_division(own: tuple[Path, Path], tmp_path: Path) -> None:
    root, run = own
    moved = Path(shutil.copytree(root, tmp_path / "elsewhere"))
    split = run / "split.csv"
    # Another test video than the names would choose.
    header, *lines = rows(run)
    tested = {(label, group) for _, label, part, group in lines if part == "test"}
    changed = [
        [name, label, "train" if (label, group) in tested else "test", group]
        for name, label, _, group in lines
    ]
    outside = [str(tmp_path / "gone.avi"), "run", "train", ""]
    with split.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *changed, outside])
    folder = tmp_path / "published"
    done = publish(run, folder)
    assert "split.csv and README.md" in done.stdout
    assert "1 video with an absolute path" in done.stderr and "names 8 videos" in done.stderr
    assert rows(folder) == [header, *changed]
    assert "`split.csv`" in (folder / "README.md").read_text()
    shutil.copyfile(moved / "run" / "r0" / "0.avi", moved / "run" / "new.avi")
    done = evaluate(folder, "--data.root", str(moved))
    assert done.stdout.startswith("6 test videos of 2 classes") and "run/new.avi" in done.stderr
    expected = {"rule": "recording", "by": "their folders", "file": str(folder / "split.csv")}
    assert division(folder / "evaluation") == expected
    publish(folder, tmp_path / "again")
    assert rows(tmp_path / "again") == [header, *changed]
    # Of data that lacks some of its files it is not the list.
    shutil.rmtree(moved / "run" / "r0")
    done = evaluate(folder, "--data.root", str(moved))
    assert "is not followed: 1 video of 8 in it is not in" in done.stderr
    assert division(folder / "evaluation")["file"] is None
    # Damaged, it is refused; gone, the rest is of use.
    (folder / "split.csv").write_text(split.read_text().replace("train", "test"))
    words = ["evaluate", "--checkpoint", str(folder), "--data.root", str(root)]
    one_line(run_here(*words), "split_sha256")
    (folder / "split.csv").unlink()
    assert division(_evaluated(folder, root))["file"] is None


def _evaluated(folder: Path, root: Path) -> Path:
    evaluate(folder, "--data.root", str(root))
    return folder / "evaluation"


def test_runs_of_before_keep_every_fifth_file(own: tuple[Path, Path], tmp_path: Path) -> None:
    """Neither the record, the configuration nor the checkpoint names the rule."""
    _, run = own
    root = tmp_path / "flat"
    clip = own[0] / "run" / "r0" / "0.avi"
    for name in ("jump", "run"):
        (root / name).mkdir(parents=True)
        for number in range(6):
            shutil.copyfile(clip, root / name / f"{number}.avi")
    entries = record(run)
    del entries["lists"]
    entries["config"]["data"] = old_data(entries["config"]["data"], root)
    (run / "run.json").write_text(json.dumps(entries))
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["data"] = old_data(config["data"], root)
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    (run / "split.csv").unlink()
    for path in (run / "checkpoints").glob("*.ckpt"):
        content = torch.load(path, weights_only=True)
        stored = content["video_snl"]["experiment"]
        stored["data"] = old_data(stored["data"], root)
        torch.save(content, path)
    done = evaluate(run)
    assert "split" not in done.stderr
    predicted = (run / "evaluation" / "predictions.csv").read_text()
    assert f"{root}/jump/4.avi" in predicted and f"{root}/run/4.avi" in predicted
    assert predicted.count(".avi") == 2
    assert division(run / "evaluation")["rule"] == "file"
    done = run_here("train", "--resume", str(run), "--optimizer.epochs", "2")
    assert done.returncode == 0, done.stderr
    [resumed] = record(run)["resumed"]
    assert resumed["changed"] == {"optimizer.epochs": [1, 2]}
    assert [row[0] for row in rows(run) if row[2] == "test"] == ["jump/4.avi", "run/4.avi"]
    evaluate(run)
    expected = {"rule": "file", "by": "every fifth file of a class"}
    assert division(run / "evaluation") == expected | {"file": str(run / "split.csv")}


def old_data(data: dict[str, Any], root: Path) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key != "split_by"} | {"root": str(root)}


def test_a_table_may_miss_a_file(made: Path, tmp_path: Path) -> None:
    lines = [f"{name}/r{i}/0.avi,{name},{name}{i}" for name in ("jump", "run") for i in range(4)]
    table = write_lines(tmp_path / "list.csv", ["path,label,group", "gone.avi,run,r9", *lines])
    for name in ("jump", "run"):
        (tmp_path / name).symlink_to(made / "my own!" / name)
    more = {"data__dataset": "csv", "optimizer__epochs": 1, "optimizer__batch_size": 4}
    done = run_here("train", *tiny_options(table, tmp_path / "runs", **more))
    assert done.returncode == 0, done.stderr
    assert "1 file of 9 does not exist" in done.stderr and "line 2: " in done.stderr
    run = only_run(tmp_path / "runs")
    assert run.name.startswith("list-2")
    assert ["gone.avi", "run", "train", "r9"] in rows(run)
    assert "gone.avi" in (run / "quarantine.jsonl").read_text()
    for name in ("jump", "run"):
        (tmp_path / name).unlink()
    one_line(
        run_here("train", *tiny_options(table, tmp_path / "no", **more)), "column path: 9 of 9"
    )
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("block", ["none", "nl", "snl"])
def test_configurations_of_fine_tuning_have_the_input_of_the_weights(block: str) -> None:
    values = yaml.safe_load((FINETUNE / f"x3d_xs_{block}.yaml").read_text(encoding="utf-8"))
    assert values.pop("task") == "video"
    experiment = Experiment.from_dict(values)
    recipe = VIDEO_BACKBONES["x3d_xs"].recipe
    assert recipe is not None
    for name, value in recipe.data_options().items():
        assert getattr(experiment.data, name) == value
    assert experiment.model.block == block and experiment.model.weights == "x3d_xs"
    snl = yaml.safe_load((FINETUNE / "x3d_xs_snl.yaml").read_text(encoding="utf-8"))
    del snl["task"]
    snl["model"]["block"] = block
    assert snl == values


def test_a_folder_without_videos_of_ours_is_no_run(tmp_path: Path) -> None:
    words = ["--config", str(FINETUNE / "x3d_xs_snl.yaml"), "--trainer.output", str(tmp_path)]
    one_line(run_here("train", *words), "--data.root")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_fine_tuning_on_a_folder(real_data: Path, tmp_path: Path) -> None:
    """The command of the README on real videos, with published weights in a file."""
    weights = real_data / "weights" / "x3d_xs_kinetics400_dequantised.pyth"
    if not weights.is_file():
        pytest.skip(f"no {weights}")
    for name in ("JumpingJack", "Lunges"):
        (tmp_path / "actions" / name).mkdir(parents=True)
        for video in sorted((real_data / "ucf5" / "UCF-101" / name).glob("*_g0[1-5]_c01.avi")):
            shutil.copy(video, tmp_path / "actions" / name)
    options = {
        "config": FINETUNE / "x3d_xs_snl.yaml",
        "data.root": tmp_path / "actions",
        "model.weights": weights,
        "optimizer.epochs": 2,
        "optimizer.batch_size": 4,
        "trainer.output": tmp_path / "runs",
        "trainer.accelerator": "cpu",
    }
    words = command("train", *option_words(options, {}))
    done = subprocess.run(words, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 0, done.stderr
    for line in (
        "100.0% of the backbone's parameters matched",
        "head: new, 2 classes; the file's, 400 classes, is dropped",
        "block at before:res4.10: new (snl)",
    ):
        assert line in done.stderr, done.stderr
    table = [line.split() for line in done.stderr.splitlines()]
    assert ["all", "8", "2", "8", "+", "2"] in table
    run = only_run(tmp_path / "runs")
    assert run.name.startswith("actions-x3d_xs_snl-") and len(rows(run)) == 11
    assert record(run)["metrics"]["best"]["val/top1"] == 1.0
