"""Tracklets of a few coloured frames, and trainings on them that take seconds."""

from __future__ import annotations

from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
from PIL import Image

from reid.cli.main import main
from reid.data.tracklet import Tracklet
from tests.tiny import run_here

HEIGHT, WIDTH = 32, 16


def write_tracklet(folder: Path, person: int, camera: int, frames: int = 3) -> list[str]:
    """Frames of the person's colour, darker under other cameras, with noise of their own."""
    folder.mkdir(parents=True)
    names = []
    for number in range(frames):
        random = np.random.default_rng([person, camera, number])
        colour = np.random.default_rng(person).integers(60, 255, 3) * (1 - 0.15 * camera)
        pixels = colour + random.normal(0, 12, (HEIGHT, WIDTH, 3))
        names.append(str(folder / f"{number:04}.png"))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(names[-1])
    return names


def write_folder(root: Path, identities: int = 4) -> Path:
    """The layout of ``folder``: ``identities`` to train on, three to search for, two cameras."""
    for person in range(1, identities + 1):
        for camera in (0, 1):
            for number in range(2):
                place = root / "train" / f"{person:04}" / f"c{camera}" / f"t{number}"
                write_tracklet(place, person, camera)
    for person in range(101, 104):
        write_tracklet(root / "query" / f"{person}" / "c0" / "t0", person, 0)
        write_tracklet(root / "gallery" / f"{person}" / "c1" / "t0", person, 1, frames=5)
    write_tracklet(root / "gallery" / "0000" / "c1" / "t0", 900, 1)
    write_tracklet(root / "gallery" / "-1" / "c0" / "t0", 901, 0)
    return root


def tracklets(cameras_of: dict[int, list[int]]) -> list[Tracklet]:
    """Tracklets without images: of every person, one under each camera of a list."""
    return [
        Tracklet((f"{person}-{place}.png",) * 3, person, camera)
        for person, cameras in cameras_of.items()
        for place, camera in enumerate(cameras)
    ]


def options(root: Path, output: Path, **overrides: Any) -> list[str]:
    """Options of ``reid train``; keys of ``overrides`` have ``__`` for the dot."""
    values: dict[str, Any] = {
        "data.dataset": "folder",
        "data.root": root,
        "data.frames": 2,
        "data.height": HEIGHT,
        "data.width": WIDTH,
        "data.identities": 2,
        "data.tracklets": 2,
        "data.num_workers": 0,
        "model.backbone": "osnet_x0_25",
        "model.block": "none",
        "optimizer.epochs": 2,
        "optimizer.validate_every": 1,
        "trainer.output": output,
        "trainer.accelerator": "cpu",
        "trainer.loggers": "[csv]",
        "trainer.progress": "false",
    }
    values |= {name.replace("__", "."): value for name, value in overrides.items()}
    return [word for name, value in values.items() for word in (f"--{name}", str(value))]


def run(*words: str) -> CompletedProcess[str]:
    """The command in this process, which has loaded torch already."""
    return run_here(*words, main=main)
