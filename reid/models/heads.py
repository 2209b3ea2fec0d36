"""Temporal heads: from the feature map of a tracklet to one vector, (B, C, T, h, w) -> (B, D).

All means are in float32 or wider. With x_t the spatial mean of frame t:

===============  ================================================================================
mean             (1 / T) sum_t x_t
attention        sum_t a_t x_t, a = softmax over t of v * relu(U x_t), v a convolution over 3 frames
rnn              (1 / T) sum_t h_t, h a GRU's hidden states over x_1, ..., x_T
nonlocal3d       the mean of block(X), one more block over all T h w positions
normalised_mean  (1 / T) sum_t x_t / norm(x_t)
===============  ================================================================================

With a mask (B, T), True for the frames of a tracklet that exist, which come first, all sums, means
and the softmax are over these alone: as if the others were not there.

``attention`` and ``rnn`` follow Gao and Nevatia, arXiv:1805.02104.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "AttentionHead",
    "MeanHead",
    "NonlocalHead",
    "NormalisedMeanHead",
    "RecurrentHead",
]

_ATTENTION_WIDTH = 256
_HIDDEN = 512


def frame_vectors(maps: Tensor) -> Tensor:
    """Compute spatial means. (B, C, T, h, w) -> (B, T, C)."""
    return maps.mean((3, 4), dtype=_wide(maps)).mT


def _kept(frames: Tensor, mask: Tensor | None) -> Tensor:
    """Set frames that do not exist to zero. (B, T, D), (B, T) -> (B, T, D)."""
    return frames if mask is None else torch.where(mask[..., None], frames, 0)


def _mean_of_frames(frames: Tensor, mask: Tensor | None) -> Tensor:
    """Average over the frames that exist. (B, T, D), (B, T) -> (B, D)."""
    if mask is None:
        return frames.mean(1, dtype=_wide(frames))
    return _kept(frames, mask).sum(1, dtype=_wide(frames)) / mask.sum(1, keepdim=True)


def _mean_of_positions(maps: Tensor, mask: Tensor | None) -> Tensor:
    """Average over all positions of the frames that exist. (B, C, T, h, w), (B, T) -> (B, C)."""
    if mask is None:
        return maps.mean((2, 3, 4), dtype=_wide(maps))
    return _mean_of_frames(frame_vectors(maps), mask)


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


class MeanHead(nn.Module):
    """Mean over all positions of all frames."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.feature_dim = channels

    def forward(self, maps: Tensor, mask: Tensor | None = None) -> Tensor:
        return _mean_of_positions(maps, mask)


class NormalisedMeanHead(nn.Module):
    """Mean of the vectors of the frames, each divided by its norm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.feature_dim = channels

    def forward(self, maps: Tensor, mask: Tensor | None = None) -> Tensor:
        return _mean_of_frames(F.normalize(frame_vectors(maps), dim=2), mask)


class AttentionHead(nn.Module):
    """Mean of frames with learned weights, which are all 1 / T at the start."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.feature_dim = channels
        self.embed = nn.Linear(channels, min(_ATTENTION_WIDTH, channels))
        self.score = nn.Conv1d(self.embed.out_features, 1, 3, padding=1, bias=False)
        nn.init.zeros_(self.score.weight)

    def weights(self, frames: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute the weights a of the frames, which sum to one. (B, T, C) -> (B, T)."""
        # Beyond the last frame that exists are zeros, as beyond the last of a clip.
        seen = _kept(F.relu(self.embed(frames)), mask)
        scores = self.score(seen.mT).squeeze(1)
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        return scores.softmax(-1, dtype=_wide(scores))

    def forward(self, maps: Tensor, mask: Tensor | None = None) -> Tensor:
        frames = _kept(frame_vectors(maps), mask)
        return (self.weights(frames, mask)[..., None] * frames).sum(1)


class RecurrentHead(nn.Module):
    """GRU of at most 512 units over the frames, averaged over its steps."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.feature_dim = min(_HIDDEN, channels)
        self.gru = nn.GRU(channels, self.feature_dim, batch_first=True)

    def forward(self, maps: Tensor, mask: Tensor | None = None) -> Tensor:
        hidden, _ = self.gru(_kept(frame_vectors(maps), mask))
        return _mean_of_frames(hidden, mask)


class NonlocalHead(nn.Module):
    """Block over all T x h x w positions of the last feature map, then their mean."""

    def __init__(self, channels: int, block: nn.Module) -> None:
        super().__init__()
        self.feature_dim, self.block = channels, block

    def forward(self, maps: Tensor, mask: Tensor | None = None) -> Tensor:
        seen = self.block(maps) if mask is None else self.block(maps, mask=mask)
        return _mean_of_positions(seen, mask)
