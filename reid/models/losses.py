"""Losses of a batch of tracklets, all in float32, under autocast, too."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional as F

from reid.config import ReidOptimizerConfig
from reid.models.network import TrackletOutput

__all__ = ["CenterLoss", "TrackletLoss", "batch_hard_triplet_loss"]


def batch_hard_triplet_loss(vectors: Tensor, labels: Tensor, margin: float | None) -> Tensor:
    """Compute the triplet loss with the hardest positive and negative of each anchor in the batch.

    mean over anchors a of  l(max_{y_p = y_a} |x_a - x_p| - min_{y_n != y_a} |x_a - x_n|),
    l(z) = max(0, z + margin), or log(1 + exp(z)) without a margin (Hermans et al.,
    arXiv:1703.07737). An anchor whose identity occurs once, or that has no other identity beside
    it, is left out of the mean; when all are, the loss is zero (and has a gradient, of zeros).

    Shapes: vectors (B, D), labels (B,) -> ().
    """
    with torch.autocast(vectors.device.type, enabled=False):
        x = vectors.float()
        # The form with a matrix product loses the small distances, which the hardest negatives
        # have.
        distances = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
        same = labels[:, None] == labels
        others = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        positive = distances.masked_fill(~others, 0.0).amax(1)
        negative = distances.masked_fill(same, torch.inf).amin(1)
        usable = others.any(1) & ~same.all(1)
        gap = torch.where(usable, positive - negative, 0.0)
        each = F.softplus(gap) if margin is None else F.relu(gap + margin)
        return torch.where(usable, each, 0.0).sum() / usable.sum().clamp(min=1)


class CenterLoss(nn.Module):
    """Centre loss 1/2 mean_i |x_i - c_{y_i}|^2, c the centres of the identities (Wen et al., 2016).

    The centres are not parameters: as in the paper, a training step moves them by
    c_j += rate * sum_{y_i = j} (x_i - c_j) / (1 + #{y_i = j}). They start at zero, and are stored
    with the other buffers. With several processes the sums are taken over all of them, so that all
    hold the same centres.

    Args:
        num_people: Number of identities.
        feature_dim: Length of the vectors.
        rate: alpha of the paper.

    Shapes: vectors (B, D), labels (B,) -> ().
    """

    centers: Tensor

    def __init__(self, num_people: int, feature_dim: int, rate: float = 0.5) -> None:
        super().__init__()
        self.rate = rate
        self.register_buffer("centers", torch.zeros(num_people, feature_dim))

    def forward(self, vectors: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast(vectors.device.type, enabled=False):
            away = vectors.float() - self.centers[labels]
            if self.training:
                self._move(away.detach(), labels)
            return away.square().sum(1).mean() / 2

    def _move(self, away: Tensor, labels: Tensor) -> None:
        sums = torch.zeros_like(self.centers).index_add_(0, labels, away)
        counts = torch.bincount(labels, minlength=len(self.centers)).to(sums)
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(sums)
            dist.all_reduce(counts)
        # In place would change what the gradient of this step is computed from.
        self.centers = self.centers + self.rate * sums / (1 + counts[:, None])


class TrackletLoss(nn.Module):
    """Cross-entropy, batch-hard triplet and centre loss, weighted and summed.

    Cross-entropy (with label smoothing) takes the logits, the others the raw vectors. A loss of
    weight zero is left out. With several processes, triplets are those within one process.

    Args:
        config: Weights, margin and label smoothing.
        num_people: Number of training identities.
        feature_dim: Length of the raw vectors.

    Returns: ``loss`` and, unweighted, ``cross_entropy``, ``triplet`` and ``center``, each ().
    """

    def __init__(self, config: ReidOptimizerConfig, num_people: int, feature_dim: int) -> None:
        super().__init__()
        self.config = config
        self.center = CenterLoss(num_people, feature_dim) if config.center_weight else None

    def forward(self, output: TrackletOutput, labels: Tensor) -> dict[str, Tensor]:
        smoothing = self.config.label_smoothing
        with torch.autocast(output.logits.device.type, enabled=False):
            entropy = F.cross_entropy(output.logits.float(), labels, label_smoothing=smoothing)
        losses, total = {"cross_entropy": entropy}, entropy
        if self.config.triplet_weight:
            margin = self.config.triplet_margin
            losses["triplet"] = batch_hard_triplet_loss(output.raw, labels, margin)
            total = total + self.config.triplet_weight * losses["triplet"]
        if self.center is not None:
            losses["center"] = self.center(output.raw, labels)
            total = total + self.config.center_weight * losses["center"]
        return {"loss": total, **losses}
