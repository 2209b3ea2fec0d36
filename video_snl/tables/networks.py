"""Networks of the cells: their options checked, their parameters and multiply-adds counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from video_snl.commands.describe import described, image_description
from video_snl.config.backbones import IMAGE_BACKBONES, VIDEO_BACKBONES
from video_snl.config.image import ImageDataConfig, ImageExperiment, ImageModelConfig
from video_snl.config.task_spec import IMAGE, VIDEO, exact_spec
from video_snl.config.video import Experiment
from video_snl.data.image.catalog import image_class_count
from video_snl.errors import UserError
from video_snl.models.image import build_image_model, stage_layers
from video_snl.models.video import build_model, head_parameters
from video_snl.tables.cells import BLOCKS, VIDEO_LISTS, Cell
from video_snl.tables.settings import Planned
from video_snl.tasks.datamodule import share_of_batch
from video_snl.tasks.optimization import freeze

__all__ = ["Size", "check_cell", "sizes_of"]

# At an eighth of an image's height and width all layers of the segmentation network, which has only
# convolutions and norms, cost a 64th, and are traced in a second. Gates have layers that
# cost the same at every size.
_PART = 8
_GATES = {block.block for block in BLOCKS.values() if block.gate}


@dataclass(frozen=True)
class Size:
    """Size of a network in evaluation, and of its blocks; products with affinities left out."""

    parameters: int
    multiply_adds: int
    added_parameters: int
    added_multiply_adds: int


def sizes_of(planned: Sequence[Planned]) -> list[Size]:
    """Return the size of every cell for inputs of its configuration; no dataset is needed."""
    known: dict[str, Size] = {}
    sizes = []
    for cell in planned:
        experiment = cell.experiment
        if isinstance(experiment, Experiment):
            sized = _video_experiment(cell.cell, experiment)
            key = repr((sized.model, sized.data.clip_frames, sized.data.crop))
            if key not in known:
                known[key] = _summed(described(sized, VIDEO))
        else:
            data, model = experiment.data, experiment.model
            key = repr((model, _classes(data), data.height, data.width))
            if key not in known:
                known[key] = _size(model, _classes(data), (data.height, data.width))
        sizes.append(known[key])
    return sizes


def check_cell(experiment: ImageExperiment | Experiment) -> None:
    """Check that the options go together, as far as that can be told without the data.

    Raises:
        UserError: naming the option and what it should be.
    """
    of_videos = isinstance(experiment, Experiment)
    exact_spec(VIDEO if of_videos else IMAGE, experiment).make().check_options(experiment)
    trainer, optimizer = experiment.trainer, experiment.optimizer
    if trainer.devices != "auto":
        if min(trainer.devices, trainer.nodes) < 1:
            raise UserError(
                f"trainer.devices={trainer.devices}, trainer.nodes={trainer.nodes}: at least one "
                "of each is needed."
            )
        world = trainer.devices * trainer.nodes
        share_of_batch(optimizer.batch_size, optimizer.accumulate, world)
    if isinstance(experiment, Experiment):
        _check_videos(experiment)
    else:
        _check_images(experiment)


def _check_videos(experiment: Experiment) -> None:
    model, optimizer = experiment.model, experiment.optimizer
    entry = VIDEO_BACKBONES[model.backbone]
    if model.weights is not None and model.weights in entry.by_hand:
        raise UserError(f"--weights {model.weights}: {entry.by_hand[model.weights]}.")
    own = (model.backbone,) if entry.recipe is not None else ()
    _check_weights(model.weights, (*entry.weights, *own))
    if optimizer.frozen_stages:
        with torch.device("meta"):  # takes neither time nor memory
            network = build_model(replace(model, weights=None), 2)[0]
        freeze(network, optimizer)


def _check_images(experiment: ImageExperiment) -> None:
    data, model, optimizer = experiment.data, experiment.model, experiment.optimizer
    if data.dataset != "folder" and model.num_classes is not None:
        classes = image_class_count(replace(data, root=None))
        if model.num_classes != classes:
            raise UserError(
                f"model.num_classes={model.num_classes}, but {data.dataset} has {classes} "
                "classes; leave the option out."
            )
    _check_weights(model.weights, tuple(IMAGE_BACKBONES[model.backbone].weights))
    if optimizer.frozen_stages:
        with torch.device("meta"):  # takes neither time nor memory
            network = build_image_model(replace(model, weights=None), 2)[0]
        freeze(network, optimizer, stage_layers, head_parameters)


def _check_weights(weights: str | None, names: Sequence[str]) -> None:
    if weights is None or weights in names or "://" in weights or Path(weights).is_file():
        return
    known = f" and no weights of this network ({', '.join(names)})" if names else ""
    raise UserError(f"model.weights={weights}: no such file{known}.")


def _video_experiment(cell: Cell, experiment: Experiment) -> Experiment:
    """Return an experiment that says the number of its classes, and needs no folder for it."""
    classes = experiment.model.num_classes or VIDEO_LISTS[cell.dataset].classes
    return replace(experiment, model=replace(experiment.model, num_classes=classes))


def _size(model: ImageModelConfig, classes: int, size: tuple[int, int]) -> Size:
    segments = model.backbone == "fcn_r50_d8" and not any(side % (8 * _PART) for side in size)
    part = _PART if segments and model.block not in _GATES else 1
    facts = image_description(model, classes, (size[0] // part, size[1] // part))
    return _summed(facts, part**2)


def _summed(facts: dict[str, Any], parts: int = 1) -> Size:
    blocks: list[dict[str, Any]] = facts["blocks"]
    return Size(
        parameters=facts["parameters"],
        multiply_adds=parts * facts["multiply_adds"],
        added_parameters=sum(block["parameters"] for block in blocks),
        added_multiply_adds=parts * sum(block["multiply_adds"] for block in blocks),
    )


def _classes(data: ImageDataConfig) -> int:
    """Return the number of classes; of own folders as found, without any that of CIFAR-10."""
    if data.dataset != "folder":
        return image_class_count(replace(data, root=None))
    return 10 if data.root is None else image_class_count(data)
