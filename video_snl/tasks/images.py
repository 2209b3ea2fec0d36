"""LightningModules of image classification and of semantic segmentation."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from video_snl.config.image import ImageExperiment
from video_snl.config.statistics import Statistics
from video_snl.config.task_spec import IMAGE, exact_spec
from video_snl.data.loading.collate import Batch
from video_snl.data.transforms.image import evaluation_images, training_images
from video_snl.models.fcn import SegmentationLogits, segmentation_loss
from video_snl.models.image import stage_layers
from video_snl.models.video import head_parameters
from video_snl.tasks.base import Parts, Task
from video_snl.tasks.metrics import PixelConfusion, TestMetrics
from video_snl.tasks.optimization import image_rate_factor
from video_snl.tasks.sliding_window import slide, window_stride
from video_snl.utils.finite import class_scores
from video_snl.utils.timing import stage

__all__ = ["ImageClassification", "ImageTask", "Segmentation"]

IGNORED = 255


class ImageTask(Task):
    """Base of the tasks on images.

    Args:
        experiment: The configuration.
        model: (B, 3, H, W) -> logits.
        class_names: In the order of the labels.
        statistics: Mean and standard deviation of the input, for values in [0, 1].
        files: Paths of the training images, to name those of a batch that went wrong.
    """

    noun = "images"

    def __init__(
        self,
        experiment: ImageExperiment,
        model: nn.Module,
        class_names: list[str],
        statistics: Statistics,
        files: Sequence[str] = (),
    ) -> None:
        super().__init__(
            experiment,
            model,
            spec=exact_spec(IMAGE, experiment),
            parts=Parts(head_parameters, stage_layers),
            files=files,
        )
        self.experiment, self.class_names = experiment, class_names
        self.mean, self.std = statistics
        self.train_loss = MeanMetric()
        self._make_metrics()

    @abstractmethod
    def _make_metrics(self) -> None:
        """Make the metrics of the task, beside the loss of training."""

    def training_input(self, batch: Batch) -> Tensor:
        """Crop, augment and normalise a batch, on its device -> (B, 3, h, w)."""
        with stage("transform"):
            images = training_images(batch, self.experiment.data, self.mean, self.std)
            return self._laid_out(images)

    def evaluation_input(self, images: Tensor) -> Tensor:
        """Normalise images: uint8 (B, h, w, 3) -> (B, 3, h, w)."""
        return self._laid_out(evaluation_images(images, self.mean, self.std))

    def rate_factor(self, epoch: float) -> float:
        return image_rate_factor(self.experiment.optimizer, epoch)

    def about(self) -> dict[str, Any]:
        return {
            "class_names": self.class_names,
            "mean": list(self.mean),
            "std": list(self.std),
        }

    def _laid_out(self, images: Tensor) -> Tensor:
        return images if self.experiment.trainer.channels_last else images.contiguous()


class ImageClassification(ImageTask):
    """Image classification: cross-entropy, top-1 and top-5."""

    def _make_metrics(self) -> None:
        self.train_top1 = MulticlassAccuracy(len(self.class_names), average="micro")
        self.listed = TestMetrics(len(self.class_names))

    def loss(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return the mean loss of a batch. Shapes: (B, classes), (B,)."""
        smoothing = self.experiment.optimizer.label_smoothing
        return F.cross_entropy(logits.float(), label, label_smoothing=smoothing)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        label, logits = batch["label"], self.model(self.training_input(batch))
        loss = self.checked(self.loss(logits, label), batch["index"])
        self.train_loss(loss.detach(), len(label))
        self.train_top1(logits, label)
        self.log_epoch({"train/loss": self.train_loss, "train/top1": self.train_top1}, len(label))
        return self.weighted(loss)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Measure the loss of readable images, and the accuracies of all, unreadable ones wrong."""
        label = batch["label"]
        if len(label):
            self.listed.update(self.model(self.evaluation_input(batch["image"])), label)
        self.listed.update_missed(batch["unreadable"])
        self.log_epoch(self.listed.named(), len(label))

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Return ``scores`` (B, classes), the softmax, and ``index`` (B,) of the readable images.

        The scores are NaN where the logits are not finite.
        """
        scores = torch.empty(0, len(self.class_names))
        if len(batch["label"]):
            logits = self.model(self.evaluation_input(batch["image"]))
            scores = class_scores(logits).cpu()
        return {"index": batch["index"].cpu(), "scores": scores}


class Segmentation(ImageTask):
    """A label for every pixel: cross-entropy of head and auxiliary head; mIoU, mAcc and aAcc."""

    noun = "images"
    skip_unreadable = False
    """Leave images that cannot be read out of the scores; else their pixels count as wrong."""

    def _make_metrics(self) -> None:
        self.train_right, self.val_loss = MeanMetric(), MeanMetric()
        self.confusion = PixelConfusion(len(self.class_names), IGNORED)
        self._not_finite: list[Tensor] = []

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        labels = batch["label"].long()
        output = cast(SegmentationLogits, self.model(self.training_input(batch)))
        loss = self.checked(segmentation_loss(output, labels, IGNORED), batch["index"])
        self.train_loss(loss.detach(), len(labels))
        labelled = labels != IGNORED
        right = ((output.logits.argmax(1) == labels) & labelled).sum()
        count = labelled.sum()
        self.train_right(right / count.clamp(min=1), count)
        self.log_epoch({"train/loss": self.train_loss, "train/aAcc": self.train_right}, len(labels))
        return self.weighted(loss)

    def on_validation_epoch_start(self) -> None:
        self.confusion.reset()
        self._not_finite = []

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count pixels; those of unreadable images are wrong or left out, and have no loss.

        Pixels whose scores are not finite count as wrong.
        """
        if len(batch["label"]):
            labels = batch["label"].long()
            logits = self.logits(batch["image"])
            found = self.confusion.predicted(logits)
            self.confusion.update(found, labels)
            broken = (found == self.confusion.not_finite) & (labels != IGNORED)
            self._not_finite.append(batch["index"][broken.flatten(1).any(1)])
            self.val_loss(segmentation_loss(logits, labels, IGNORED), (labels != IGNORED).sum())
        if "missed" in batch and not self.skip_unreadable:
            self.confusion.update_missed(batch["missed"])
        self.log_epoch({"val/loss": self.val_loss}, len(batch["label"]))

    def not_finite(self) -> list[int]:
        """Return the indices of the last validation's images with scores that are not finite."""
        return [index for part in self._not_finite for index in part.tolist()]

    def on_validation_epoch_end(self) -> None:
        for name, value in self.confusion.scores().named().items():
            self.log(f"val/{name}", value)

    def logits(self, images: Tensor) -> Tensor:
        """Score every pixel, as a whole or by windows: uint8 (B, H, W, 3) -> (B, C, H, W)."""
        data, inputs = self.experiment.data, self.evaluation_input(images)
        if not data.sliding_windows:
            return cast(Tensor, self.model(inputs)).float()
        window = data.height, data.width
        return slide(lambda x: self.model(x).float(), inputs, window, window_stride(data))
