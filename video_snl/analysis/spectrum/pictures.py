"""``video-snl spectrum`` of a network of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from video_snl.analysis.model_input import Subject
from video_snl.analysis.spectrum.run import Asked, evenly_spaced, files_below, measured_and_reported
from video_snl.blocks.insertion import inserted_blocks
from video_snl.config.image_programs import IMAGES
from video_snl.data.image.catalog import load_images
from video_snl.data.image.inference import read_input
from video_snl.data.transforms.image import evaluation_images
from video_snl.engine.trainer import device_of
from video_snl.errors import UserError
from video_snl.runs.run import checkpoint_path
from video_snl.runs.trained_images import TrainedImages, load_trained_images

__all__ = ["spectrum"]


def spectrum(
    paths: Sequence[str], asked: Asked, *, checkpoint: str | None, accelerator: str
) -> int:
    """Measure on pictures; without paths, on some of the run's test list.

    Returns:
        2 when a picture could not be read, else 0.
    """
    files = files_below(paths, "images")
    device = device_of(accelerator)
    trained = load_trained_images(checkpoint_path(checkpoint, IMAGES))
    listed = {} if files else _listed(trained, asked.inputs)
    blocks = inserted_blocks(trained.model)

    def subject(source: str) -> Subject:
        image = listed[source] if listed else read_input(Path(source), trained.experiment.data)
        return _subject(source, image, trained, device)

    kind = trained.experiment.model.block
    sources = files or list(listed)
    return measured_and_reported("video-snl", trained.path, (kind, blocks), sources, subject, asked)


def _subject(source: str, image: Tensor, trained: TrainedImages, device: torch.device) -> Subject:
    """One picture, uint8 (H, W, 3); a scene as a whole, also where it is labelled by windows."""
    model = trained.model.to(device)
    clip = evaluation_images(image[None].to(device), trained.mean, trained.std).contiguous()
    return Subject(
        source=source,
        checkpoint=trained.path,
        run=model,
        scores=None,
        blocks=inserted_blocks(model),
        block=trained.experiment.model.block,
        frames=image[None].numpy(),
        clip=clip,
        class_names=trained.class_names,
    )


def _listed(trained: TrainedImages, count: int) -> dict[str, Tensor]:
    """Some of the test list of the run, by name."""
    try:
        test = load_images(trained.experiment.data).test
        chosen = evenly_spaced(count, len(test))
        return {test.paths[index]: test[0, index]["image"] for index in chosen}
    except UserError as error:
        raise UserError(f"the test list of the run: {error}; or name pictures") from error
