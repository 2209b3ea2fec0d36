"""Which kind of network a checkpoint of ``video-snl`` holds, of videos or of pictures."""

from __future__ import annotations

from pathlib import Path

from video_snl.config.image_programs import IMAGES
from video_snl.config.task_spec import VIDEO_SNL, Program
from video_snl.runs.run import checkpoint_path, stored_program
from video_snl.runs.trained import Trained, load_trained
from video_snl.runs.trained_images import TrainedImages, load_trained_images

__all__ = ["AnyTrained", "find_trained"]

AnyTrained = Trained | TrainedImages


def find_trained(named: str | None) -> tuple[AnyTrained, Program]:
    """The network that a user means, on the CPU and in evaluation mode.

    Args:
        named: As for :func:`~video_snl.runs.run.checkpoint_path`.

    Raises:
        UserError: There is none, or it is damaged.
    """
    program = stored_program(named, "runs", (VIDEO_SNL, IMAGES))
    path: Path = checkpoint_path(named, program)
    trained = load_trained_images(path) if program is IMAGES else load_trained(path)
    return trained, program
