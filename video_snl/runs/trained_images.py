"""Trained networks of pictures: out of our checkpoints, and out of those of the released code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from video_snl.config.image import ImageExperiment
from video_snl.config.image_programs import IMAGES
from video_snl.config.images import ImageModelConfig
from video_snl.data.image.catalog import ImageSet
from video_snl.errors import UserError
from video_snl.models.image import build_image_model
from video_snl.models.released.networks import released_config
from video_snl.models.released.state_dicts import Kind
from video_snl.runs.trained import fill, read_checkpoint, said_of
from video_snl.runs.validation import built_from
from video_snl.utils.counts import counts

__all__ = ["TrainedImages", "load_released_images", "load_trained_images"]


@dataclass(frozen=True)
class TrainedImages:
    """A trained network of pictures with all that is needed to use it.

    ``epoch`` counts from 0; it is None where a file of the released code does not say. ``stored``
    is what a checkpoint of ours says of it, and empty of others.
    """

    model: nn.Module
    experiment: ImageExperiment
    class_names: list[str]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    epoch: int | None
    path: Path
    stored: Mapping[str, Any] = field(default_factory=dict)


def load_trained_images(path: Path) -> TrainedImages:
    """The network of a checkpoint of ours, on the CPU and in evaluation mode.

    Raises:
        UserError: The file is no such checkpoint, or is damaged.
    """
    content = read_checkpoint(path, IMAGES)
    about = content[IMAGES.entry]
    experiment = ImageExperiment.from_dict(about["experiment"])
    # The weights come from this checkpoint: those the training started from are not needed again.
    experiment.model.weights = None
    with built_from(path):
        model, _ = build_image_model(experiment.model, len(about["class_names"]))
    fill(model, content, path)
    return TrainedImages(
        model=model.eval(),
        experiment=experiment,
        class_names=list(about["class_names"]),
        mean=tuple(about["mean"]),
        std=tuple(about["std"]),
        epoch=int(content["epoch"]),
        path=path,
        stored=said_of(content, IMAGES),
    )


def load_released_images(
    path: Path, experiment: ImageExperiment, images: ImageSet, *, kind: Kind | None = None
) -> TrainedImages:
    """The network of a checkpoint of the paper's released code, in evaluation mode.

    Args:
        experiment: Its backbone and the data set say what the file is of.
        images: The data set it is measured on.
        kind: Of its blocks, where the file does not tell it.

    Raises:
        UserError: The file is no checkpoint of that backbone, or has another number of classes.
    """
    config: ImageModelConfig = released_config(str(path), experiment.model.backbone, kind=kind)
    classes = len(images.class_names)
    if config.num_classes != classes:
        raise UserError(
            f"{path} knows {counts(int(config.num_classes or 0), 'class')}, the data set has "
            f"{classes}: evaluate on the data set it was trained on."
        )
    model, _ = build_image_model(config, classes)
    return TrainedImages(
        model=model.eval(),
        experiment=replace(experiment, model=replace(config, weights=None)),
        class_names=images.class_names,
        mean=images.mean,
        std=images.std,
        epoch=None,
        path=path,
    )
