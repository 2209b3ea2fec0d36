"""What a cell's training would refuse, found before any of them starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from video_snl.config.image import ImageExperiment
from video_snl.config.task_spec import IMAGE, exact_spec
from video_snl.data.image.catalog import image_class_count
from video_snl.errors import UserError
from video_snl.models.image import build_image_model, stage_layers
from video_snl.models.video import head_parameters
from video_snl.tasks.datamodule import share_of_batch
from video_snl.tasks.optimization import freeze

__all__ = ["check_cell"]


def check_cell(experiment: ImageExperiment) -> None:
    """Whether the options go together, as far as that can be told without the data.

    Raises:
        UserError: naming the option and what it should be.
    """
    exact_spec(IMAGE, experiment).make().check_options(experiment)
    data, model, trainer = experiment.data, experiment.model, experiment.trainer
    optimizer = experiment.optimizer
    if trainer.devices != "auto":
        if min(trainer.devices, trainer.nodes) < 1:
            raise UserError(
                f"trainer.devices={trainer.devices}, trainer.nodes={trainer.nodes}: at least one "
                "of each is needed."
            )
        world = trainer.devices * trainer.nodes
        share_of_batch(optimizer.batch_size, optimizer.accumulate, world)
    if data.dataset != "folder" and model.num_classes is not None:
        classes = image_class_count(replace(data, root=None))
        if model.num_classes != classes:
            raise UserError(
                f"model.num_classes={model.num_classes}, but {data.dataset} has {classes} "
                "classes; leave the option out."
            )
    weights = model.weights or "imagenet"
    if weights != "imagenet" and "://" not in weights and not Path(weights).is_file():
        raise UserError(f"model.weights={weights}: no such file.")
    if optimizer.frozen_stages:
        with torch.device("meta"):  # takes neither time nor memory
            network = build_image_model(replace(model, weights=None), 2)[0]
        freeze(network, optimizer, stage_layers, head_parameters)
