"""The commands that look after a dataset: ``check`` and ``prepare``. Without torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from video_snl.config.options import Json, Workers, option, option_group, options_of
from video_snl.errors import UserError

if TYPE_CHECKING:
    from jsonargparse import Namespace

__all__ = ["CHECK", "PREPARE", "Check", "Prepare", "check", "number_of_workers", "prepare"]

CHECK = """Decode every file of a dataset and list what is missing or wrong.
Exit code 0: all intact; 1: something was found; 2: bad input. --json lists every file."""
PREPARE = """Make a copy of a dataset that is quick to decode: small frames, many key frames.
Same folders and names; lists are copied, originals never touched. Every file is decoded again
before it is put in place. Given once more, the command goes on where it ended. Exit code 0: all
prepared; 1: some originals could not be read; 2: bad input, or a full disk."""


@option_group
class Check(Json, Workers):
    """Options of ``check``.

    Args:
        root: Folder of the dataset, or a CSV file with the columns path,label[,split][,group].
        dataset: ucf101 (what the lists in ucfTrainTestlist/ name), folder (all videos below it) or
            csv (the rows of the file). Default: by what --root is.
        clip_frames: Frames of a clip; fewer is too short.
        frame_stride: Distance between the frames of a clip, in frames of the video.
    """

    root: str = option(required=True)
    dataset: Literal["ucf101", "folder", "csv"] | None = None
    clip_frames: int = 16
    frame_stride: int = 1


@option_group
class Prepare(Workers):
    """Options of ``prepare``.

    Args:
        root: Folder of the dataset.
        out: Folder of the copy: new, or of the same command.
        short_side: Pixels of the shorter side of its frames; smaller videos keep their size.
        key_frame_every: Frames from one key frame to the next.
    """

    root: str = option(required=True)
    out: str = option(required=True)
    short_side: int = 128
    key_frame_every: int = 8
    deadline: float = 120.0


def check(arguments: Namespace) -> int:
    options = options_of(Check, arguments)
    if options.clip_frames < 1:
        raise UserError("--clip_frames must be at least 1.")
    if options.frame_stride < 1:
        raise UserError("--frame_stride must be at least 1.")
    options.check()
    root = Path(options.root).expanduser()
    if not root.exists():
        raise UserError(f"--root {options.root} does not exist: give the folder of a dataset")
    from video_snl.commands.check import check

    return check(
        root,
        dataset=options.dataset,
        num_workers=number_of_workers(options),
        deadline=options.deadline,
        max_pixels=options.max_pixels,
        clip_frames=options.clip_frames,
        frame_stride=options.frame_stride,
        as_json=options.json,
    )


def prepare(arguments: Namespace) -> int:
    options = options_of(Prepare, arguments)
    options.check()
    from video_snl.commands.prepare import prepare

    return prepare(
        Path(options.root).expanduser(),
        Path(options.out).expanduser(),
        short_side=options.short_side,
        key_frame_every=options.key_frame_every,
        num_workers=number_of_workers(options),
        deadline=options.deadline,
        max_pixels=options.max_pixels,
    )


def number_of_workers(options: Workers) -> int:
    """Return the number of processes: as many as there are cores, where none is given."""
    return options.num_workers or len(os.sched_getaffinity(0))
