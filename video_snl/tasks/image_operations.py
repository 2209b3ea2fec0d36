"""Image classification and segmentation: their data, their networks and how one image is read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms.v2.functional import center_crop

from video_snl.config.backbones import IMAGE_BACKBONES
from video_snl.config.image import ImageExperiment
from video_snl.config.statistics import Statistics
from video_snl.config.validation import Range, check_training
from video_snl.data.image.base import ImageDataset
from video_snl.data.image.catalog import ImageSet, image_class_count, image_labels, load_images
from video_snl.data.image.classification import check_options
from video_snl.data.image.inference import read_input as read_image_input
from video_snl.data.image.reading import UnreadableImage
from video_snl.data.image.segmentation import SegmentationDataset
from video_snl.data.transforms.image import evaluation_images
from video_snl.errors import OptionsError, UserError
from video_snl.models.image import build_image_model, stage_layers
from video_snl.models.released.networks import released_config
from video_snl.models.released.state_dicts import Kind
from video_snl.models.video import head_parameters, recompute_units
from video_snl.models.weights.loading import LoadReport
from video_snl.runs.trained import Trained
from video_snl.tasks.class_operations import ClassOperations
from video_snl.tasks.datamodule import ImageDataModule
from video_snl.tasks.images import ImageClassification, ImageTask, Segmentation
from video_snl.tasks.operations import (
    Lists,
    ModelInput,
    evenly_spaced,
    without_weights,
)
from video_snl.tasks.optimization import keep_frozen_layers_in_eval
from video_snl.tasks.preprocessing import PixelNetwork, Preprocessed
from video_snl.tasks.sliding_window import window_stride
from video_snl.utils.counts import counts

__all__ = ["ImageOperations", "SegmentationOperations"]

_OPTIMIZER = {
    "batch_size": Range(1),
    "test_batch_size": Range(1),
    "epoch_steps": Range(1),
    "momentum": Range(),
    "drop": Range(0, 1, open=True),
    "power": Range(open=True),
    "least_learning_rate": Range(),
}


class ImageOperations(ClassOperations[ImageExperiment, ImageSet]):
    """Operations of image classification."""

    task: type[ImageTask] = ImageClassification
    segments = False
    """The dataset has a label for every pixel."""

    def check_options(self, experiment: ImageExperiment) -> None:
        optimizer = experiment.optimizer
        self.check_evaluation(experiment)
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
                recompute_units(self.build_network(without_weights(experiment), 2)[0])

    def check_evaluation(self, experiment: ImageExperiment) -> None:
        check_training(experiment, _OPTIMIZER)
        data, model = experiment.data, experiment.model
        check_options(data)
        backbone = IMAGE_BACKBONES[model.backbone]
        if backbone.segments != self.segments:
            labelling = [name for name, each in IMAGE_BACKBONES.items() if each.segments]
            needed = " or ".join(labelling) if self.segments else "another one: that labels pixels"
            raise OptionsError(
                f"data.dataset={data.dataset} and model.backbone={model.backbone}: the dataset "
                f"has {'a label for every pixel' if self.segments else 'one label for an image'}, "
                f"the backbone must be {needed}."
            )
        if min(data.height, data.width) < backbone.smallest:
            raise OptionsError(
                f"{model.backbone} needs images of at least {backbone.smallest} pixels a side; "
                f"data.height={data.height}, data.width={data.width}."
            )
        if self.segments and data.sliding_windows:
            window_stride(data)

    def load_data(self, experiment: ImageExperiment) -> tuple[ImageExperiment, ImageSet]:
        return experiment, load_images(experiment.data, seed=experiment.trainer.seed)

    def load_test_data(
        self, experiment: ImageExperiment, known: list[str] | None
    ) -> tuple[ImageExperiment, ImageSet]:
        return experiment, load_images(experiment.data)

    def check_trained(
        self, trained: Trained[ImageExperiment], experiment: ImageExperiment, data: ImageSet
    ) -> None:
        super().check_trained(trained, experiment, data)
        chosen = experiment.data.statistics
        if chosen != "auto" and (data.mean, data.std) != trained.statistics:
            raise OptionsError(
                f"data.statistics={chosen}: {trained.path} was trained with the mean "
                f"{trained.mean} and the standard deviation {trained.std}, which go with its "
                "weights; leave the option out."
            )

    def check_data(self, experiment: ImageExperiment, data: ImageSet) -> None:
        super().check_data(experiment, data)
        optimizer = experiment.optimizer
        whole = optimizer.epoch_steps is None
        self.check_batches(experiment, data, optimizer.batch_size, smaller_last=whole)

    def keep_frozen(self, model: nn.Module, experiment: ImageExperiment) -> None:
        keep_frozen_layers_in_eval(model, experiment.optimizer, stage_layers, head_parameters)

    def lists(self, data: ImageSet) -> Lists:
        return {part.what: _labelled_files(part) for part in (data.train, data.test)}

    def datamodule(
        self, experiment: ImageExperiment, data: ImageSet, folder: Path | None
    ) -> ImageDataModule:
        return ImageDataModule(experiment, data, folder)

    def class_count(self, experiment: ImageExperiment) -> int:
        return image_class_count(experiment.data)

    def input_shape(self, experiment: ImageExperiment) -> tuple[int, ...]:
        return 3, experiment.data.height, experiment.data.width

    def smallest_input(self, experiment: ImageExperiment) -> tuple[int, ...]:
        return (IMAGE_BACKBONES[experiment.model.backbone].smallest,) * 2

    def build_network(
        self, experiment: ImageExperiment, labels: int, *, seed: int = 0
    ) -> tuple[nn.Module, LoadReport | None]:
        data, backbone = experiment.data, experiment.model.backbone
        size, known = (data.height, data.width), IMAGE_BACKBONES.get(backbone)
        if known is not None and min(size) < known.smallest:
            raise UserError(
                f"images of (H, W) = {size} are too small for backbone {backbone}, which needs at "
                f"least {known.smallest} pixels a side."
            )
        return build_image_model(experiment.model, labels, seed=seed)

    def load_released(
        self, path: Path, experiment: ImageExperiment, data: ImageSet, kind: Kind | None
    ) -> Trained[ImageExperiment]:
        """Load a checkpoint of the paper's released code, in evaluation mode.

        Args:
            path: The checkpoint.
            experiment: Configuration, whose backbone and dataset say what the file holds.
            data: The dataset it is evaluated on.
            kind: Kind of its blocks, if the file does not tell it.

        Raises:
            UserError: The file is no checkpoint of that backbone, or has another number of classes.
        """
        config = released_config(str(path), experiment.model.backbone, kind=kind)
        classes = len(data.class_names)
        if config.num_classes != classes:
            raise UserError(
                f"{path} knows {counts(int(config.num_classes or 0), 'class')}, the dataset has "
                f"{classes}: evaluate on the dataset it was trained on."
            )
        model, _ = build_image_model(config, classes)
        return Trained(
            model=model.eval(),
            experiment=without_weights(replace(experiment, model=config)),
            epoch=None,
            path=path,
            spec=self.spec,
            class_names=data.class_names,
            mean=data.mean,
            std=data.std,
        )

    def statistics(
        self, experiment: ImageExperiment, data: ImageSet, report: LoadReport | None
    ) -> Statistics:
        return data.mean, data.std

    def training_task(
        self,
        experiment: ImageExperiment,
        model: nn.Module,
        labels: list[str],
        statistics: Statistics | None,
        data: ImageSet,
    ) -> ImageTask:
        assert statistics is not None
        return self.task(experiment, model, labels, statistics, data.train.paths)

    def scoring_task(self, trained: Trained[ImageExperiment]) -> ImageTask:
        return self.task(trained.experiment, trained.model, trained.class_names, trained.statistics)

    def test_inputs(
        self, trained: Trained[ImageExperiment], count: int
    ) -> list[tuple[str, Path | Tensor]]:
        try:
            test = load_images(trained.experiment.data).test
            chosen = evenly_spaced(count, len(test))
            return [(test.paths[index], test[0, index]["image"]) for index in chosen]
        except UserError as error:
            raise UserError(f"the test list of the run: {error}; or name images") from error

    def read_input(
        self,
        trained: Trained[ImageExperiment],
        name: str,
        item: Path | Tensor,
        device: torch.device,
        *,
        option: str | None = None,
    ) -> ModelInput:
        """Read an image as a whole, also where it is labelled by windows."""
        try:
            data = trained.experiment.data
            image = item if isinstance(item, Tensor) else read_image_input(item, data)
        except UnreadableImage as error:
            raise UserError(str(error) if option is None else f"{option} {error}") from error
        task = self.scoring_task(trained).to(device).eval()
        return ModelInput(
            frames=image[None].numpy(), clip=task.evaluation_input(image[None].to(device))
        )

    def preprocessed(self, trained: Trained[ImageExperiment]) -> Preprocessed:
        """Return the network of pixels: of labelled images their centre, else whole images."""
        data, statistics = trained.experiment.data, trained.statistics
        size = None if self.segments else (data.height, data.width)

        def evaluated(images: Tensor) -> Tensor:
            if size is not None:
                images = center_crop(images.movedim(-1, 1), list(size)).movedim(1, -1)
            return trained.model(evaluation_images(images, *statistics))  # type: ignore[no-any-return]

        network = PixelNetwork(trained.model, statistics, size, "even")
        smallest = size or self.smallest_input(trained.experiment)
        return Preprocessed(network, evaluated, smallest)

    def layers(self, model: nn.Module) -> list[tuple[str, nn.Module]]:
        parts = [row for row in _with_parameters(model) if row[0] != "auxiliary_head"]
        inner = [
            (f"{name}.{row}", module)
            for name, part in parts
            if name == "backbone"
            for row, module in _with_parameters(part)
        ]
        return inner + [row for row in parts if row[0] != "backbone"]

    def facts(self, model: nn.Module, labels: int) -> dict[str, Any]:
        """Count the auxiliary head, which only training has, by itself."""
        head = getattr(model, "auxiliary_head", None)
        auxiliary = sum(p.numel() for p in head.parameters()) if isinstance(head, nn.Module) else 0
        return {"auxiliary_parameters": auxiliary}


class SegmentationOperations(ImageOperations):
    """Operations of semantic segmentation."""

    task = Segmentation
    segments = True

    def scores_classes(self, trained: Trained[ImageExperiment]) -> bool:
        return False


def _labelled_files(part: ImageDataset) -> Iterable[tuple[str, object]]:
    """Pair every image with its label, or its label map."""
    labels = (
        part.label_paths if isinstance(part, SegmentationDataset) else image_labels(part).tolist()
    )
    return zip(part.paths[:], labels, strict=True)


def _with_parameters(part: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(n, m) for n, m in part.named_children() if next(m.parameters(), None) is not None]
