"""``video-snl explain`` of a network of pictures."""

from __future__ import annotations

from pathlib import Path

import torch

from video_snl.analysis.explain.output import (
    check_source,
    output_folder,
    report,
    write_explanations,
)
from video_snl.analysis.explain.positions import parse_at
from video_snl.analysis.model_input import Subject, explained
from video_snl.blocks.insertion import inserted_blocks
from video_snl.config.backbones import IMAGE_BACKBONES
from video_snl.config.image_programs import IMAGES
from video_snl.data.image.inference import read_input
from video_snl.data.image.reading import UnreadableImage
from video_snl.engine.train_images import task_of
from video_snl.engine.trainer import device_of
from video_snl.errors import UserError
from video_snl.runs.run import checkpoint_path
from video_snl.runs.trained_images import TrainedImages, load_trained_images

__all__ = ["explain", "picture_subject"]


def explain(
    source: str,
    *,
    checkpoint: str | None,
    compare: str | None,
    output: str | None,
    at: str | None,
    accelerator: str,
) -> int:
    """Write the folder of an explanation, and print the classes and where it is.

    Raises:
        UserError: Something named is not there, cannot be read or written, or no position.
    """
    position = None if at is None else parse_at(at)
    check_source(source, "picture")
    device = device_of(accelerator)
    named = [checkpoint_path(checkpoint, IMAGES)]
    named += [] if compare is None else [checkpoint_path(compare, IMAGES, option="--compare")]
    folder = output_folder(output, source)
    subjects = [picture_subject(source, load_trained_images(path), device) for path in named]
    explanations = explained(subjects, position)
    page = write_explanations(folder, explanations, position)
    report(explanations, page)
    return 0


def picture_subject(source: str, trained: TrainedImages, device: torch.device) -> Subject:
    """A picture as the network was tested on them.

    Raises:
        UserError: The file is damaged, or no picture.
    """
    try:
        image = read_input(Path(source), trained.experiment.data)
    except UnreadableImage as error:
        raise UserError(str(error)) from error
    statistics = trained.mean, trained.std
    task = task_of(trained.experiment)(
        trained.experiment, trained.model, trained.class_names, statistics
    )
    task = task.to(device).eval()
    config = trained.experiment.model
    segments = IMAGE_BACKBONES[config.backbone].segments
    notes = ["The network labels every pixel: there are no scores and no Grad-CAM."]
    return Subject(
        source=source,
        checkpoint=trained.path,
        run=trained.model,
        scores=None if segments else trained.model,
        blocks=inserted_blocks(trained.model),
        block=config.block,
        frames=image[None].numpy(),
        clip=task.evaluation_input(image[None].to(device)),
        class_names=trained.class_names,
        notes=notes if segments else [],
    )
