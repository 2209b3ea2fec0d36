"""``video-snl train`` on pictures: the network and the data of a run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from video_snl.config.backbones import IMAGE_BACKBONES
from video_snl.config.datasets import IMAGE_DATASETS
from video_snl.config.image import ImageExperiment
from video_snl.config.image_programs import image_program
from video_snl.config.ranges import Range, check_training
from video_snl.data.image.base import ImageDataset
from video_snl.data.image.catalog import ImageSet, image_labels, load_images
from video_snl.data.image.classification import check_options
from video_snl.data.image.segmentation import SegmentationDataset
from video_snl.engine.fitting import fit, opened_run, tell
from video_snl.engine.resume import Asked, Listed
from video_snl.engine.training_checks import check_class_count, check_last_batch
from video_snl.errors import OptionsError, UserError
from video_snl.models.image import build_image_model, stage_layers
from video_snl.models.video import head_parameters, recompute_units
from video_snl.runs.trained import read_checkpoint
from video_snl.tasks.image_data import ImageDataModule
from video_snl.tasks.images import ImageClassification, ImageTask, Segmentation
from video_snl.tasks.optimization import keep_frozen_layers_in_eval
from video_snl.tasks.sliding_window import window_stride
from video_snl.utils.text import same_labels

__all__ = ["check_experiment", "check_network", "check_values", "make_task", "task_of", "train"]

_OPTIMIZER = {
    "batch_size": Range(1),
    "test_batch_size": Range(1),
    "epoch_steps": Range(1),
    "momentum": Range(),
    "drop": Range(0, 1, open=True),
    "power": Range(open=True),
    "least_learning_rate": Range(),
}


def train(
    experiment: ImageExperiment, *, config_name: str | None, asked: Asked, profile: bool = False
) -> int:
    """Train, or train on, and return the exit code; ``profile`` prints where loading took time."""
    check_experiment(experiment)
    images = load_images(experiment.data, seed=experiment.trainer.seed)
    check_classes(experiment, images)
    check_class_count(len(images.class_names), "images")
    _check_last_batch(experiment, images)
    lists: Listed = {part.what: _listed(part) for part in (images.train, images.test)}
    with opened_run(experiment, image_program(experiment), config_name, asked, lists) as run:
        task = make_task(experiment, images, resumed=run.last_checkpoint)
        pictures = ImageDataModule(experiment, images, run.folder)
        return fit(experiment, task, pictures, run, profile=profile)


def _listed(part: ImageDataset) -> Iterable[tuple[str, object]]:
    """Every image with its label, or its label map."""
    labels = (
        part.label_paths if isinstance(part, SegmentationDataset) else image_labels(part).tolist()
    )
    return zip(part.paths[:], labels, strict=True)


def check_experiment(experiment: ImageExperiment) -> None:
    """Refuse options that would only fail later, deep inside.

    Raises:
        UserError: naming the option and what it should be.
    """
    optimizer = experiment.optimizer
    check_values(experiment)
    check_network(experiment)
    if optimizer.nesterov and optimizer.momentum == 0:
        raise OptionsError("optimizer.nesterov needs optimizer.momentum above 0.")
    if optimizer.least_learning_rate > optimizer.learning_rate:
        raise OptionsError(
            f"optimizer.least_learning_rate={optimizer.least_learning_rate} is above "
            f"optimizer.learning_rate={optimizer.learning_rate}: there it ends."
        )
    if optimizer.milestones != sorted(optimizer.milestones):
        raise OptionsError(
            f"optimizer.milestones={optimizer.milestones}: give epochs in ascending order."
        )
    if experiment.trainer.activation_checkpointing:
        with torch.device("meta"):  # takes neither time nor memory
            recompute_units(build_image_model(replace(experiment.model, weights=None), 2)[0])


def check_values(experiment: ImageExperiment) -> None:
    """Whether every option is in its range, whether or not a command comes to use it.

    Raises:
        OptionsError: It names the option, its value and the range.
    """
    check_training(experiment, _OPTIMIZER)
    check_options(experiment.data)


def check_network(experiment: ImageExperiment) -> None:
    """Whether the network takes what the data set gives.

    Raises:
        OptionsError: naming the options.
    """
    data, model = experiment.data, experiment.model
    backbone = IMAGE_BACKBONES[model.backbone]
    scenes = IMAGE_DATASETS[data.dataset].segments
    if backbone.segments != scenes:
        labelling = [name for name, entry in IMAGE_BACKBONES.items() if entry.segments]
        needed = " or ".join(labelling) if scenes else "another one: that labels pixels"
        raise OptionsError(
            f"data.dataset={data.dataset} and model.backbone={model.backbone}: the data set has "
            f"{'a label for every pixel' if scenes else 'one label for a picture'}, the backbone "
            f"must be {needed}."
        )
    if min(data.height, data.width) < backbone.smallest:
        raise OptionsError(
            f"{model.backbone} needs pictures of at least {backbone.smallest} pixels a side; "
            f"data.height={data.height}, data.width={data.width}."
        )
    if scenes and data.sliding_windows:
        window_stride(data)


def check_classes(experiment: ImageExperiment, images: ImageSet) -> None:
    """Whether ``model.num_classes``, where it is given, is the data set's.

    Raises:
        UserError: It is another number.
    """
    asked, classes = experiment.model.num_classes, len(images.class_names)
    if asked not in (None, classes):
        raise UserError(
            f"model.num_classes={asked}, but the data set has {classes} classes; leave the option "
            "out."
        )


def _check_last_batch(experiment: ImageExperiment, images: ImageSet) -> None:
    def build() -> nn.Module:
        config = replace(experiment.model, weights=None)
        model, _ = build_image_model(config, len(images.class_names), seed=experiment.trainer.seed)
        model.train()
        keep_frozen_layers_in_eval(model, experiment.optimizer, stage_layers, head_parameters)
        return model

    data, optimizer = experiment.data, experiment.optimizer
    check_last_batch(
        experiment,
        optimizer.batch_size,
        len(images.train),
        (3, data.height, data.width),
        build,
        smaller_last=optimizer.epoch_steps is None,
    )


def make_task(
    experiment: ImageExperiment, images: ImageSet, *, resumed: Path | None = None
) -> ImageTask:
    """The network with its weights, ready to train (or for those of the checkpoint ``resumed``).

    Raises:
        UserError: when the weights do not fit, or the checkpoint knows other classes.
    """
    program = image_program(experiment)
    stored = None
    if resumed and resumed.is_file():
        stored = read_checkpoint(resumed, program)[program.entry]
        if not same_labels(stored["class_names"], images.class_names):
            raise UserError(
                f"{resumed} was trained on {len(stored['class_names'])} other classes than the "
                f"{len(images.class_names)} of the data set; resume with the data it was trained "
                "on."
            )
    # A resumed run takes its weights from the checkpoint, not from where it once started.
    config = replace(experiment.model, weights=None) if stored else experiment.model
    classes = len(images.class_names)
    model, report = build_image_model(config, classes, seed=experiment.trainer.seed)
    if report is not None:
        tell(report.summary())
    if experiment.trainer.activation_checkpointing:
        recompute_units(model)
    return task_of(experiment)(
        experiment, model, images.class_names, (images.mean, images.std), images.train.paths
    )


def task_of(experiment: ImageExperiment) -> type[ImageTask]:
    """What is done on its data set."""
    scenes = IMAGE_DATASETS[experiment.data.dataset].segments
    return Segmentation if scenes else ImageClassification
