"""Metrics of classification and of segmentation, as torchmetrics.

To add a metric of classification, add it to :func:`class_metrics`: every epoch logs it, and
``evaluate`` reports it. What cannot be read counts as wrong in the accuracies; other metrics are of
the samples that were read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric, Metric, MetricCollection
from torchmetrics.classification import MulticlassConfusionMatrix

__all__ = [
    "PixelConfusion",
    "SegmentationScores",
    "TestMetrics",
    "TopK",
    "class_metrics",
    "further_metrics",
    "segmentation_scores",
    "top_classes",
]

_NO_CLASS = 2  # columns of pixels that have no prediction


def class_metrics(classes: int) -> MetricCollection:
    """Return the metrics of class scores by their names in ``metrics.csv`` after ``val/``.

    Args:
        classes: Number of classes.
    """
    return MetricCollection(
        {
            "top1": TopK(1),
            "top5": TopK(5),
        },
        compute_groups=False,
    )


def top_classes(scores: Tensor, names: Sequence[str], top: int) -> list[tuple[str, float]]:
    """Return the ``top`` highest of (classes,) scores, each with its class."""
    values, classes = scores.topk(min(top, len(scores)))
    return [
        (names[index], value)
        for value, index in zip(values.tolist(), classes.tolist(), strict=True)
    ]


class TopK(MeanMetric):
    """Share of the samples whose label is among the k highest scores.

    A sample without finite scores, or that could not be read, is wrong.

    Args:
        k: Number of scores that are looked at.

    Shapes:
        scores (B, classes), label (B,).
    """

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def update(self, scores: Tensor, label: Tensor) -> None:  # type: ignore[override]
        scores = scores.float()
        best = scores.topk(min(self.k, scores.shape[1])).indices
        hit = (best == label[:, None]).any(1) & scores.isfinite().all(1)
        super().update(hit.float())

    def update_missed(self, index: Tensor) -> None:
        """Count samples (B,) that could not be read."""
        super().update(torch.zeros(len(index), device=index.device))


class TestMetrics(nn.Module):
    """Mean loss over the samples of a test list that can be read, and :func:`class_metrics`.

    Args:
        classes: Number of classes.
    """

    __test__ = False  # not a test, whatever its name

    def __init__(self, classes: int) -> None:
        super().__init__()
        # MeanMetric, since Lightning's log weighs unequal shares of several processes wrongly.
        self.loss = MeanMetric()
        self.metrics = class_metrics(classes)

    def update(self, logits: Tensor, label: Tensor) -> None:
        """Count samples. Shapes: (B, classes), (B,)."""
        logits = logits.float()
        self.loss.update(F.cross_entropy(logits, label), len(label))
        self.metrics.update(logits, label)

    def update_missed(self, index: Tensor | None) -> None:
        """Count the samples (B,) as wrong."""
        if index is None or not len(index):
            return
        for metric in self.metrics.values():
            if isinstance(metric, TopK):
                metric.update_missed(index)

    def named(self) -> dict[str, Metric]:
        """Return the metrics as they are logged."""
        metrics = {f"val/{name}": metric for name, metric in self.metrics.items()}
        return {"val/loss": self.loss, **metrics}


def further_metrics(scores: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """Return the metrics of :func:`class_metrics` that are not top-k accuracies.

    Args:
        scores: (N, classes); rows that are not finite are left out.
        label: (N,).
    """
    metrics = class_metrics(scores.shape[1])
    names = [name for name, metric in metrics.items() if not isinstance(metric, TopK)]
    kept = np.isfinite(scores).all(1)
    if not names or not kept.any():
        return {}
    metrics.update(torch.from_numpy(scores[kept]), torch.from_numpy(label[kept]).long())
    computed: dict[str, Any] = metrics.compute()
    return {name: float(computed[name]) for name in names}


@dataclass(frozen=True)
class SegmentationScores:
    """Scores of a confusion matrix M, (C, C): M[i, j] pixels of class i were taken for class j.

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

    def named(self) -> dict[str, float]:
        """Return the figures over all classes by their usual names."""
        return {"mIoU": self.mean_iou, "mAcc": self.mean_accuracy, "aAcc": self.accuracy_of_all}


class PixelConfusion(MulticlassConfusionMatrix):
    """torchmetrics' confusion matrix, (C + 2, C + 2): rows are labels, columns predictions.

    Two columns take the pixels that are predicted as nothing, and so count as wrong: column C those
    of images that could not be read, column C + 1 those whose scores are not finite. The last two
    rows stay empty.

    Args:
        classes: C.
        ignored: The label of pixels that are not scored.
    """

    def __init__(self, classes: int, ignored: int = 255) -> None:
        super().__init__(classes + _NO_CLASS, ignore_index=ignored, validate_args=False)
        self.classes, self.missed, self.not_finite = classes, classes, classes + 1

    def predicted(self, scores: Tensor) -> Tensor:
        """Return the best classes; class ``not_finite`` where a score is not finite.

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
        """Return the scores of all that was counted."""
        return segmentation_scores(self.compute())


def segmentation_scores(confusion: Tensor) -> SegmentationScores:
    """Return the scores of a :class:`PixelConfusion`'s matrix, (C + 2, C + 2)."""
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
