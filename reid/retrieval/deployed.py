"""A Re-ID network that takes the frames of whole tracklets and returns unit features."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reid.config import ReidDataConfig
from reid.data.transforms import evaluation_clips
from reid.models.network import TrackletNet
from reid.retrieval.encode import encode_arrays
from reid.trained import TrainedReid
from video_snl.tasks.preprocessing import Preprocessed

__all__ = ["TrackletFeatures", "preprocessed"]


class TrackletFeatures(nn.Module):
    """Features of whole tracklets, as ``reid extract`` computes them, divided by their norms.

    Of a tracklet of n frames, chunk i of T = ``data.frames`` frames begins at frame i T, the last
    one at frame n - T; where n < T, frame i of the only chunk is frame i mod n, and by
    ``data.short_tracklets`` the first n alone count, or all T. The feature is the mean of those of
    the chunks; then the row is divided by its Euclidean norm.

    Args:
        model: Network of normalised clips.
        config: Section ``data`` of its configuration.

    Shapes: tracklets uint8 (B, N, H, W, 3) of the size of the training, lengths int64 (B,), how
    many of the N frames each has, which come first -> float32 (B, D). A row is NaN where its length
    is below ``least`` or above N.
    """

    def __init__(self, model: TrackletNet, config: ReidDataConfig) -> None:
        super().__init__()
        self.model, self.frames = model, config.frames
        self.masks = config.short_tracklets == "mask" and model.takes_masks
        refused = config.short_tracklets == "mask" and not model.takes_masks
        # Shorter ones are an error in the evaluation, too.
        self.least = self.frames if refused else 1

    def forward(self, tracklets: Tensor, lengths: Tensor) -> Tensor:
        batch, most, height, width, _ = tracklets.shape
        known = (lengths >= self.least) & (lengths <= most)
        lengths = lengths.clamp(1, most)[:, None]
        device = tracklets.device
        steps = torch.arange(self.frames, device=device)
        count = (most + self.frames - 1) // self.frames
        begins = torch.arange(count, device=device) * self.frames
        starts = torch.minimum(begins, (lengths - self.frames).clamp(min=0))  # (B, chunks)
        places = (starts[:, :, None] + steps) % lengths[:, :, None]
        rows = places + most * torch.arange(batch, device=device)[:, None, None]
        chunks = tracklets.flatten(0, 1).index_select(0, rows.flatten())
        clips = evaluation_clips(chunks.reshape(-1, self.frames, height, width, 3))
        mask = None
        if self.masks:
            # Not expanded: torch.export would record of a view that there are several chunks.
            mask = (steps + 0 * places < lengths[:, :, None]).reshape(-1, self.frames)
        features = self.model.neck(self.model.head(self.model.feature_maps(clips, mask), mask))
        counted = ((begins < lengths) & known[:, None])[..., None]  # (B, chunks, 1)
        features = features.reshape(batch, count, self.model.feature_dim)
        return F.normalize(torch.where(counted, features, 0).sum(1) / counted.sum(1))


def preprocessed(trained: TrainedReid) -> Preprocessed:
    """Return the network of tracklets with its preprocessing, and what it is compared with."""
    data, model = trained.experiment.data, trained.model
    network = TrackletFeatures(model, data)

    def evaluated(tracklets: Tensor, lengths: Tensor) -> Tensor:
        frames = [each[:length] for each, length in zip(tracklets, lengths.tolist(), strict=True)]
        layout = trained.experiment.trainer.channels_last
        return F.normalize(encode_arrays(model, frames, data, channels_last=layout))

    return Preprocessed(network, evaluated, (network.least, data.height, data.width))
