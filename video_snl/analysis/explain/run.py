"""``video-snl explain``: what do the blocks look at in this video?"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from video_snl.analysis.explain.output import (
    check_source,
    output_folder,
    report,
    write_explanations,
)
from video_snl.analysis.explain.positions import parse_at
from video_snl.analysis.model_input import Subject, explained
from video_snl.blocks.insertion import inserted_blocks
from video_snl.config.video import ShortVideos
from video_snl.data.transforms.geometry import crop_clips, normalise
from video_snl.data.video.inference import read_views
from video_snl.data.workers.forkserver import start_forkserver
from video_snl.engine.trainer import device_of
from video_snl.errors import UserError
from video_snl.runs.run import checkpoint_path
from video_snl.runs.trained import Trained, load_trained

__all__ = ["explain"]

_SCORES = "The scores are those of the frames shown: the middle of the video, its centre crop."


def explain(
    source: str,
    *,
    checkpoint: str | None,
    compare: str | None,
    output: str | None,
    at: str | None,
    short_videos: ShortVideos | None,
    deadline: float | None,
    accelerator: str,
) -> int:
    """Write the folder of an explanation, and print the classes and where it is.

    Raises:
        UserError: Something named is not there, cannot be read or written, or no position.
    """
    position = None if at is None else parse_at(at)
    if deadline is not None and not deadline > 0:
        raise UserError(f"--deadline {deadline}: give seconds, more than 0.")
    check_source(source, "video")
    device = device_of(accelerator)
    named = [checkpoint_path(checkpoint)]
    named += [] if compare is None else [checkpoint_path(compare, option="--compare")]
    folder = output_folder(output, source)
    start_forkserver()  # loads its modules while the networks are made
    subjects = [
        video_subject(source, load_trained(path), short_videos, deadline, device) for path in named
    ]
    explanations = explained(subjects, position)
    page = write_explanations(folder, explanations, position)
    report(explanations, page)
    return 0


def video_subject(
    source: str,
    trained: Trained,
    short_videos: ShortVideos | None,
    deadline: float | None,
    device: torch.device,
) -> Subject:
    """The clip in the middle of a video, cropped as in an evaluation at clip level.

    Raises:
        UserError: The video cannot be read, is too short, or takes too long.
    """
    data = trained.experiment.data
    data = replace(
        data,
        reader="auto",
        decode_device="cpu",
        short_videos=short_videos or data.short_videos,
        deadline=data.deadline if deadline is None else deadline,
    )
    views = torch.from_numpy(read_views(source, data, 1))
    frames = centre_crop(views, data.crop)
    model = trained.model.to(device)
    return Subject(
        source=source,
        checkpoint=trained.path,
        run=model,
        scores=model,
        blocks=inserted_blocks(model),
        block=trained.experiment.model.block,
        frames=frames[0].numpy(),
        clip=normalise(frames.to(device), trained.mean, trained.std),
        class_names=trained.class_names,
        notes=[_SCORES],
    )


def centre_crop(video: Tensor, crop: int | tuple[int, int]) -> Tensor:
    """uint8 (B, T, H, W, 3) -> (B, T, h, w, 3)."""
    size = torch.tensor(video.shape[2:4]).expand(len(video), 2)
    middle = torch.full((len(video), 2), 0.5)
    return crop_clips(video, size, middle, torch.zeros(len(video), dtype=torch.bool), crop)
