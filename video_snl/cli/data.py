"""The commands that look after a data set: ``check`` and ``prepare``. Without torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser, Namespace

from video_snl.errors import UserError
from video_snl.utils.media import MAX_PIXELS

__all__ = ["CHECK", "PREPARE", "add_check_options", "add_prepare_options", "check", "prepare"]

CHECK = """Decode every file of a data set and list what is missing or wrong.
Exit code 0: all sound; 1: something was found; 2: bad input. --json lists every file."""
PREPARE = """Make a copy of a data set that is quick to decode: small frames, many key frames.
Same folders and names; lists are copied, originals never touched. Every file is decoded again
before it is put in place. Given once more, the command goes on where it ended. Exit code 0: all
prepared; 1: some originals could not be read; 2: bad input, or a full disk."""


def add_check_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--root",
        type=str,
        required=True,
        help="Folder of the data set, or a CSV file with the columns path,label[,split].",
    )
    parser.add_argument(
        "--dataset",
        type=Literal["ucf101", "folder", "csv"] | None,
        help="ucf101 (what the lists in ucfTrainTestlist/ name), folder (all videos below it) or "
        "csv (the rows of the file). Default: by what --root is.",
    )
    parser.add_argument(
        "--clip_frames", type=int, default=16, help="Frames of a clip; fewer is too short."
    )
    parser.add_argument(
        "--frame_stride", type=int, default=1, help="Distance between the frames of a clip."
    )
    _add_processes(parser, deadline=20)
    parser.add_argument("--json", action="store_true", help="Print JSON instead of a table.")


def add_prepare_options(parser: ArgumentParser) -> None:
    parser.add_argument("--root", type=str, required=True, help="Folder of the data set.")
    parser.add_argument(
        "--out", type=str, required=True, help="Folder of the copy: new, or of the same command."
    )
    parser.add_argument(
        "--short_side",
        type=int,
        default=128,
        help="Pixels of the shorter side of its frames; smaller videos keep their size.",
    )
    parser.add_argument(
        "--key_frame_every", type=int, default=8, help="Frames from one key frame to the next."
    )
    _add_processes(parser, deadline=120)


def _add_processes(parser: ArgumentParser, deadline: float) -> None:
    parser.add_argument(
        "--num_workers",
        type=int | None,
        help="Processes side by side; default: as many as there are cores.",
    )
    parser.add_argument(
        "--deadline",
        type=float,
        default=float(deadline),
        help="Seconds that a file may take before it is given up.",
    )
    parser.add_argument(
        "--max_pixels",
        type=int,
        default=MAX_PIXELS,
        help="Most pixels of a frame, height times width: a file with a larger one counts as "
        "unreadable, before memory is taken for it.",
    )


def check(arguments: Namespace) -> int:
    for name in ("clip_frames", "frame_stride"):
        if arguments[name] < 1:
            raise UserError(f"--{name} must be at least 1.")
    workers = _workers(arguments)
    root = Path(arguments.root).expanduser()
    if not root.exists():
        raise UserError(f"--root {arguments.root} does not exist: give the folder of a data set")
    from video_snl.commands.check import check

    return check(
        root,
        dataset=arguments.dataset,
        num_workers=workers,
        deadline=arguments.deadline,
        max_pixels=arguments.max_pixels,
        clip_frames=arguments.clip_frames,
        frame_stride=arguments.frame_stride,
        as_json=arguments.json,
    )


def prepare(arguments: Namespace) -> int:
    workers = _workers(arguments)
    from video_snl.commands.prepare import prepare

    return prepare(
        Path(arguments.root).expanduser(),
        Path(arguments.out).expanduser(),
        short_side=arguments.short_side,
        key_frame_every=arguments.key_frame_every,
        num_workers=workers,
        deadline=arguments.deadline,
        max_pixels=arguments.max_pixels,
    )


def _workers(arguments: Namespace) -> int:
    """Always processes of their own: only those can be stopped at the deadline."""
    workers = arguments.num_workers
    if workers is not None and workers < 1:
        raise UserError("--num_workers must be at least 1.")
    if not arguments.deadline > 0:  # which nan is not either
        raise UserError("--deadline must be more than 0 seconds.")
    if arguments.max_pixels < 1:
        raise UserError(f"--max_pixels {arguments.max_pixels}: give a number of pixels, 1 or more.")
    return len(os.sched_getaffinity(0)) if workers is None else workers
