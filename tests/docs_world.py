"""Files to run the command lines of the documentation on: runs, videos, images, datasets.

A line is run in the folder of its kind of network. There ``runs/RUN`` is a finished run, and the
reader's files (VIDEO, /data/ucf101, ...) have stand-ins. Trainings are cut short by more options.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.export.checkpoints import video_checkpoint
from tests.image_trees import noise_image, write_cifar, write_cityscapes, write_cub, write_folders
from tests.reid import little
from tests.reid.people import track_lines, write_people
from tests.reid_trees import write_ilids, write_image, write_mars
from tests.reid_trees_field import write_market1501
from tests.tiny import only_run, option_words, run_here, tiny_options
from tests.tiny_images import image_options
from tests.videos import write_ucf101, write_video
from tests.written_commands import PROGRAMS, is_placeholder

KINDS = ("video", "images", "reid")

# What the reader's files are called here. A folder that a command writes keeps its name.
_FILES: dict[str, dict[str, str]] = {
    "video": {
        "VIDEO": "clip.avi",
        "VIDEOS": "clip.avi",
        "LONG_VIDEO": "clip.avi",
        "VIDEO_OR_FOLDER": "videos",
        "/data/ucf101": "ucf101",
        "/data/ucf101-128": "ucf101-128",
        "UCF5": "ucf101",
        "UCF101_99": "ucf101",
        "runs/RUN/CHECKPOINT.ckpt": "runs/RUN/checkpoints/last.ckpt",
    },
    "images": {"IMAGES": "image.png", "IMAGE_OR_FOLDER": "images"},
    "reid": {
        "TRACKLET": "gallery",
        "TRACKLETS": "gallery",
        "FOLDER_OR_VIDEO": "gallery",
        "TRACKLET_FOLDER": "query/0001/c1/t0",
        "QUERY_FOLDER": "query/0001/c1/t0",
        "DIR/gallery": "gallery",
        "DIR/gallery/0001/c1/t0": "gallery/101/c1/t0",
        "DIR/query": "query",
        "DIR/train": "people/train",
        "/data/mars": "mars",
        "market": "people",
        "C": "runs/RUN",
        "VIDEO": "hall.mp4",
        "OTHER_VIDEO": "hall.mp4",
        "A": "runs/A",
        "B": "runs/B",
    },
}
_OUTPUTS = ("-o", "--out", "--output", "--render", "--plot", "--page", "--short_side")
_ROOTS = ("--root", "--data.root")

# Which dataset stands for DIR, by a part of the configuration's name or of the dataset's.
_DATA = {
    "--data.dataset folder": "folders",
    "ucf101": "ucf101",
    "cifar100": "cifar100",
    "cifar10/jpg": "folders",
    "imagenet": "imagenet",
    "cub200": "cub200",
    "cityscapes": "cityscapes",
    "market1501": "market1501",
    "market": "people",
    "mars": "mars",
    "ilids": "ilids-vid",
}


def kind_of(page: str, words: list[str]) -> str:
    """Return the kind of network that a line is about."""
    if words[0] == "reid":
        return "reid"
    line = " ".join(words)
    images = "IMAGE" in line or "image.png" in line or page.startswith("docs/images")
    photos = ("digits", "cifar", "imagenet", "cub200", "cityscapes")
    return (
        "images"
        if images or any(f"configs/{name}" in line or f" {name}/" in line for name in photos)
        else "video"
    )


def runnable(page: str, words: list[str]) -> list[str]:
    """A command line with stand-ins for the reader's files, and options that make it short."""
    kind = kind_of(page, words)
    files = {"RUN": "runs/RUN", **_FILES[kind]}
    done = [words[0]]
    for before, word in zip(words, words[1:], strict=False):
        if before in _ROOTS and word == "DIR":
            word = next(name for part, name in _DATA.items() if part in " ".join(words))
        elif before not in _OUTPUTS or word.startswith("/data/"):
            word = files.get(word, word)
            assert not is_placeholder(word) or before == "--checkpoint", f"what is {word}?"
        done.append(word)
    return [*done, *_shortening(kind, words)]


def _shortening(kind: str, words: list[str]) -> list[str]:
    if words[1] == "export":
        short = ["--runs", "1", "--compiled", "false"]
        return short if kind == "reid" else [*short, "--dynamic", "none"]
    if words[1] == "serve":
        return ["--port", "0"]
    if words[1] != "train":
        return []
    if "--resume" in words:
        return ["--trainer.progress", "false"]
    return _training(kind, words)


def _training(kind: str, words: list[str]) -> list[str]:
    """Return options of one epoch of few small steps on a CPU, of a network without weights."""
    short: dict[str, Any] = {
        "optimizer.epochs": 1,
        "data.num_workers": 0,
        "trainer.accelerator": "cpu",
        "trainer.loggers": "[csv]",
        "trainer.progress": "false",
        "optimizer.warmup_epochs": 0,
    }
    if kind == "video":
        size = {"data.short_side": 32, "data.crop": 32, "data.clip_frames": 4}
        network = {"model.backbone": "i3d_small", "model.positions": "[before:res4.-1]"}
        short |= {**size, **network, "optimizer.batch_size": 6}
    elif kind == "images":
        size = {"data.height": 32, "data.width": 32, "data.short_side": "null"}
        short |= {**size, "model.weights": "null", "optimizer.epoch_steps": 1}
        short |= {"optimizer.batch_size": 2, "optimizer.test_batch_size": 2}
        short["data.in_memory"] = "false"
    else:
        size = {"data.height": 32, "data.width": 16, "data.frames": 2}
        network = {"model.backbone": "osnet_x0_25", "model.weights": "null"}
        short |= {**size, **network, "data.identities": 2, "data.tracklets": 2}
        short["optimizer.validate_every"] = 1
    return option_words(short, {})


@dataclass(frozen=True)
class Runs:
    """A finished run of each kind, to be copied, and the data of two of them."""

    runs: dict[str, Path]
    people: Path
    ucf101: Path


def make_runs(folder: Path) -> Runs:
    """Train a small network of each kind for an epoch."""
    ucf101 = write_ucf101(folder / "ucf101", frames=20)
    people = little.write_folder(folder / "people")
    one = {"optimizer__epochs": 1, "model__block": "snl"}
    words = {
        "video": tiny_options(ucf101, folder / "video", **one),
        "images": image_options(folder / "images", **one),
        "reid": little.options(people, folder / "reid", **one),
    }
    for kind, options in words.items():
        main = PROGRAMS["reid" if kind == "reid" else "video-snl"]
        done = run_here("train", *options, main=main)
        assert done.returncode == 0, done.stderr
    return Runs({kind: only_run(folder / kind) for kind in KINDS}, people, ucf101)


def lay_before(words: list[str]) -> None:
    """Files that a line takes from a line of another block."""
    takes = words[:2] == ["reid", "serve"] or words[:3] == ["reid", "gallery", "create"]
    if takes and "feats.parquet" in words and not Path("feats.parquet").exists():
        extract = ["extract", "--checkpoint", "runs/RUN", "gallery", "-o", "feats.parquet"]
        assert run_here(*extract, main=PROGRAMS["reid"]).returncode == 0


def lay_out(folder: Path, runs: Runs, configs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folders that lines are run in: ``folder/video``, ``folder/images``, ``folder/reid``."""
    for kind in KINDS:
        place = folder / kind
        shutil.copytree(runs.runs[kind], place / "runs" / "RUN")
        (place / "configs").symlink_to(configs)
    _lay_out_videos(folder / "video", runs)
    _lay_out_pictures(folder / "images", monkeypatch)
    _lay_out_people(folder / "reid", runs)


def _lay_out_videos(place: Path, runs: Runs) -> None:
    write_video(place / "clip.avi", frames=120, size=(32, 40))
    (place / "videos").mkdir()
    (place / "videos" / "a.avi").hardlink_to(place / "clip.avi")
    (place / "ucf101").symlink_to(runs.ucf101)
    for name in ("jump", "run"):
        for letter in "abcdef":
            write_video(place / "my_videos" / name / f"{letter}.mp4", frames=60)
    for name in ("SNL", "NL"):
        video_checkpoint(place / "runs" / name, name.lower())


def _lay_out_pictures(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "images").mkdir()
    noise_image(1).save(place / "image.png")
    noise_image(2).save(place / "images" / "a.png")
    write_folders(place / "folders")
    write_folders(place / "imagenet", test="val")
    write_cifar(place / "cifar100", "cifar100", monkeypatch)
    write_cub(place / "cub200")
    write_cityscapes(place / "cityscapes")


def _lay_out_people(place: Path, runs: Runs) -> None:
    (place / "people").symlink_to(runs.people)
    query, gallery = (runs.people / name for name in ("query", "gallery"))
    (place / "gallery").symlink_to(gallery)
    shutil.copytree(query / "101" / "c0" / "t0", place / "query" / "0001" / "c1" / "t0")
    for name in ("A", "B"):
        shutil.copytree(runs.runs["reid"], place / "runs" / name)
    write_mars(place / "mars", images=True)
    write_market1501(place / "market1501")
    _lay_out_ilids(place / "ilids-vid")
    write_people(place / "hall.mp4")
    (place / "tracks.txt").write_text("\n".join(track_lines()))
    (place / "times.csv").write_text("name,time\npeople/train/0001/c1/t0,2026-11-30T08:00:00Z\n")


def _lay_out_ilids(place: Path) -> None:
    """Four identities, half of which train, under two cameras."""
    identities = [f"cam{camera}/person{person:03}" for person in range(1, 5) for camera in (1, 2)]
    names = {name: [f"{name.replace('/', '_')}_{i:05}.png" for i in (1, 2)] for name in identities}
    write_ilids(place, names)
    for path in place.rglob("*.png"):
        write_image(path)


__all__ = ["Runs", "kind_of", "lay_before", "lay_out", "make_runs", "runnable"]
