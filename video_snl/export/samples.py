"""What the exported network of a checkpoint is to take, and an input made of a file."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from video_snl.config.task_spec import AnyExperiment
from video_snl.errors import UserError
from video_snl.export.inputs import Input, free_axes
from video_snl.runs.trained import Trained
from video_snl.tasks.operations import Reading

__all__ = ["input_of", "sample_of"]


def input_of(trained: Trained[AnyExperiment], dynamic: str) -> Input:
    """Return the input of a checkpoint's network.

    Args:
        trained: The network.
        dynamic: Free axes, as for :func:`~video_snl.export.inputs.free_axes`.
    """
    operations = trained.spec.make()
    sizes = operations.input_shape(trained.experiment)[1:]
    name = "clips" if len(sizes) == 3 else "images"
    smallest = operations.smallest_input(trained.experiment)
    return Input(name, sizes, smallest, free_axes(dynamic, 2 + len(sizes)))


def sample_of(trained: Trained[AnyExperiment], path: Path) -> Tensor:
    """Return the centre of the centre clip of a video, or an image as it is tested, normalised.

    Raises:
        UserError: It cannot be read.
    """
    if not path.is_file():
        raise UserError(f"--input {path}: no such file.")
    operations = trained.spec.make()
    read = operations.reading(trained, Reading())
    given = operations.read_input(read, str(path), path, torch.device("cpu"), option="--input")
    trained.model.eval()  # a task sets its network to training
    return given.clip.contiguous()
