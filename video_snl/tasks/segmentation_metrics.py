"""How well pixels are labelled: mIoU, mAcc and aAcc, from a confusion matrix."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

__all__ = ["PixelConfusion", "SegmentationScores", "segmentation_scores"]

_NO_CLASS = 2  # columns of pixels that have no prediction


@dataclass(frozen=True)
class SegmentationScores:
    """With M[i, j] the pixels of class i that were taken for class j, i and j < C:

    Args:
        mean_iou: mIoU, the mean of ``iou`` over the classes that have one.
        mean_accuracy: mAcc, the mean of ``accuracy`` over the classes that have one.
        accuracy_of_all: aAcc, sum_i M[i, i] / (all labelled pixels).
        iou: (C,), M[i, i] / (row_i + column_i - M[i, i]); NaN for a class that neither is nor was
            predicted anywhere.
        accuracy: (C,), M[i, i] / row_i, the recall; NaN for a class without pixels.

    Where no pixel is labelled all of them are NaN.
    """

    mean_iou: float
    mean_accuracy: float
    accuracy_of_all: float
    iou: Tensor
    accuracy: Tensor


class PixelConfusion(MulticlassConfusionMatrix):
    """torchmetrics' confusion matrix, (C + 2, C + 2): rows are labels, columns predictions.

    Two columns take the pixels that are predicted as nothing, and so count as wrong: column C those
    of pictures that could not be read, column C + 1 those whose scores are not finite. The last two
    rows stay empty.

    Args:
        classes: C.
        ignored: The label of pixels that are not scored.
    """

    def __init__(self, classes: int, ignored: int = 255) -> None:
        super().__init__(classes + _NO_CLASS, ignore_index=ignored, validate_args=False)
        self.classes, self.missed, self.not_finite = classes, classes, classes + 1

    def predicted(self, scores: Tensor) -> Tensor:
        """The classes with the highest scores; ``not_finite`` where one of the scores is not.

        argmax would find the class of a NaN there. Shapes: (B, C, H, W) -> (B, H, W).
        """
        return scores.argmax(1).masked_fill(~scores.isfinite().all(1), self.not_finite)

    def update(self, scores: Tensor, labels: Tensor) -> None:
        """Count pixels: scores (B, C, H, W), or predicted classes (B, H, W); labels (B, H, W)."""
        predicted = self.predicted(scores) if scores.ndim == 4 else scores
        super().update(predicted.long(), labels.long())

    def update_missed(self, labels: Tensor) -> None:
        """Count all labelled pixels (B, H, W) as wrong."""
        super().update(torch.full_like(labels, self.missed, dtype=torch.int64), labels.long())

    def scores(self) -> SegmentationScores:
        """Of all that was counted."""
        return segmentation_scores(self.compute())


def segmentation_scores(confusion: Tensor) -> SegmentationScores:
    """The scores of a confusion matrix as of :class:`PixelConfusion`, (C + 2, C + 2)."""
    counts = confusion.double().cpu()
    correct = counts.diagonal()[:-_NO_CLASS]
    labelled, predicted = counts.sum(1)[:-_NO_CLASS], counts.sum(0)[:-_NO_CLASS]
    # 0 / 0 is NaN: the class has no such figure.
    iou, accuracy = correct / (labelled + predicted - correct), correct / labelled
    return SegmentationScores(
        mean_iou=iou.nanmean().item(),
        mean_accuracy=accuracy.nanmean().item(),
        accuracy_of_all=(correct.sum() / labelled.sum()).item(),
        iou=iou,
        accuracy=accuracy,
    )
