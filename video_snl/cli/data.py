"""The commands that look after a dataset: ``check`` and ``prepare``. Without torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from video_snl.config.options import (
    Engine,
    Json,
    NetworkEngine,
    Workers,
    option,
    option_group,
    options_of,
)
from video_snl.errors import UserError
from video_snl.utils.extras import require

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from video_snl.data.workers.cluster import Cluster

__all__ = [
    "CHECK",
    "PREPARE",
    "Check",
    "Prepare",
    "check",
    "cluster_of",
    "number_of_workers",
    "prepare",
]

CHECK = """Decode every file of a dataset and list what is missing or wrong.
Exit code 0: all intact; 1: something was found; 2: bad input. --json lists every file."""
PREPARE = """Make a copy of a dataset that is quick to decode: small frames, many key frames.
Same folders and names; lists are copied, originals never touched. Every file is decoded again
before it is put in place. Given once more, the command goes on where it ended. Exit code 0: all
prepared; 1: some originals could not be read; 2: bad input, or a full disk."""


@option_group
class Check(Json, Engine, Workers):
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
class Prepare(Engine, Workers):
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
    cluster = cluster_of(options, options.num_workers)
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
        cluster=cluster,
    )


def prepare(arguments: Namespace) -> int:
    options = options_of(Prepare, arguments)
    options.check()
    cluster = cluster_of(options, options.num_workers)
    from video_snl.commands.prepare import prepare

    return prepare(
        Path(options.root).expanduser(),
        Path(options.out).expanduser(),
        short_side=options.short_side,
        key_frame_every=options.key_frame_every,
        num_workers=number_of_workers(options),
        deadline=options.deadline,
        max_pixels=options.max_pixels,
        cluster=cluster,
    )


def number_of_workers(options: Workers) -> int:
    """Return the number of processes: as many as there are cores, where none is given."""
    return options.num_workers or len(os.sched_getaffinity(0))


def cluster_of(
    options: Engine, num_workers: int | None, accelerator: str = "cpu"
) -> Cluster | None:
    """Return the cluster of Ray that does the work of a command; None: the command itself.

    Args:
        options: Options of the engine.
        num_workers: Most tasks at once, from 1 on; None: as many as there is room for.
        accelerator: Where the network runs: ``auto``, ``cpu`` or ``gpu``.

    Raises:
        UserError: They do not go together, or Ray is not installed.
    """
    options.check_engine()
    if options.engine == "local":
        return None
    given = options.num_gpus if isinstance(options, NetworkEngine) else None
    names = {"auto": None, "cpu": False, "gpu": True, "cuda": True}
    if accelerator not in names:
        raise UserError(f"--accelerator {accelerator}: choose auto, cpu or gpu.")
    num_gpus = float(names[accelerator] or 0) if given is None else given
    if not 0 <= num_gpus < float("inf"):
        raise UserError(f"--num_gpus {num_gpus:g}: give 0 or more.")
    if names[accelerator] is (num_gpus == 0):
        raise UserError(f"--num_gpus {num_gpus:g} does not go with --accelerator {accelerator}.")
    require("ray")
    from video_snl.data.workers.cluster import Cluster

    return Cluster(options.ray_address, options.num_cpus or 1, num_gpus, num_workers)
