"""Loss and accuracies over a test list, in which what cannot be read counts as wrong."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric, Metric

__all__ = ["ListAccuracy"]


class ListAccuracy(nn.Module):
    """Mean loss over the samples that can be read; top-1 and top-5 over all."""

    def __init__(self) -> None:
        super().__init__()
        # MeanMetric, since Lightning's log weighs unequal shares of several processes wrongly.
        self.loss, self.top1, self.top5 = MeanMetric(), MeanMetric(), MeanMetric()

    def update(self, logits: Tensor, label: Tensor) -> None:
        """Count samples. Shapes: (B, classes), (B,)."""
        logits = logits.float()
        self.loss(F.cross_entropy(logits, label), len(label))
        self.top1(_hits(logits, label, 1))
        self.top5(_hits(logits, label, 5))

    def update_missed(self, index: Tensor | None) -> None:
        """Count the samples (B,) as wrong."""
        if index is not None and len(index):
            wrong = torch.zeros(len(index), device=index.device)
            self.top1(wrong)
            self.top5(wrong)

    def named(self) -> dict[str, Metric]:
        """The metrics as they are logged."""
        return {"val/loss": self.loss, "val/top1": self.top1, "val/top5": self.top5}


def _hits(logits: Tensor, label: Tensor, k: int) -> Tensor:
    """1 where the label is among the k highest logits, else 0. (B, classes), (B,) -> (B,).

    A row that is not finite is no hit: its order means nothing.
    """
    best = logits.topk(min(k, logits.shape[1])).indices
    return ((best == label[:, None]).any(1) & logits.isfinite().all(1)).float()
