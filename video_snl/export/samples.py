"""What the exported network of a checkpoint is to take, and an input made of a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from video_snl.config.backbones import IMAGE_BACKBONES, VIDEO_BACKBONES
from video_snl.data.image.inference import read_input
from video_snl.data.image.reading import UnreadableImage
from video_snl.data.video.inference import read_views
from video_snl.engine.train_images import task_of
from video_snl.errors import UserError
from video_snl.export.inputs import Input, free_axes
from video_snl.runs.kinds import AnyTrained
from video_snl.runs.trained import Trained
from video_snl.tasks.action import ActionRecognition

__all__ = ["input_of", "sample_of"]


def input_of(trained: AnyTrained, dynamic: str) -> Input:
    """The input of a checkpoint's network.

    Args:
        dynamic: As for :func:`~video_snl.export.inputs.free_axes`.
    """
    if isinstance(trained, Trained):
        clip, least = trained.experiment.data, VIDEO_BACKBONES[trained.experiment.model.backbone]
        sizes = clip.clip_frames, clip.crop, clip.crop
        return Input("clips", sizes, least.smallest_clip, free_axes(dynamic, 5))
    image, smallest = trained.experiment.data, IMAGE_BACKBONES[trained.experiment.model.backbone]
    sides = image.height, image.width
    return Input("images", sides, (smallest.smallest,) * 2, free_axes(dynamic, 4))


def sample_of(trained: AnyTrained, path: Path) -> Tensor:
    """The centre of the centre clip of a video, or a picture as it is tested, normalised.

    Raises:
        UserError: It cannot be read.
    """
    if not path.is_file():
        raise UserError(f"--input {path}: no such file.")
    return _clip(trained, path) if isinstance(trained, Trained) else _image(trained, path)


def _clip(trained: Trained, path: Path) -> Tensor:
    data = replace(trained.experiment.data, reader="auto", decode_device="cpu")
    task = ActionRecognition(
        trained.experiment,
        trained.model,
        trained.class_names,
        mean=trained.mean,
        std=trained.std,
    )
    trained.model.eval()  # a task sets its network to training
    views = torch.from_numpy(read_views(str(path), data, 1, if_short="give a longer --input"))
    size = torch.tensor(views.shape[2:4])[None]
    middle, upright = torch.full((1, 2), 0.5), torch.zeros(1, dtype=torch.bool)
    return task.clips(views, size, middle, upright).contiguous()


def _image(trained: AnyTrained, path: Path) -> Tensor:
    assert not isinstance(trained, Trained)
    statistics = trained.mean, trained.std
    make = task_of(trained.experiment)
    task = make(trained.experiment, trained.model, trained.class_names, statistics)
    trained.model.eval()
    try:
        return task.evaluation_input(read_input(path, trained.experiment.data)[None]).contiguous()
    except UnreadableImage as error:
        raise UserError(f"--input {error}") from error
