"""Networks that take decoded frames: what their evaluation does before the network is inside.

Resizing is not: runtimes round it in ways of their own (onnxruntime's antialiased ``Resize`` of
bytes differs from ours by up to 16 of 255), so the frames come in the size of the evaluation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from video_snl.config.statistics import Statistics
from video_snl.data.transforms.geometry import normalise

__all__ = ["PixelNetwork", "Preprocessed", "to_pixels"]

CropRule = Literal["up", "even"]


@dataclass(frozen=True)
class Preprocessed:
    """A network with the preprocessing of its evaluation, to be recorded.

    Attributes:
        network: uint8 (B, T, H, W, 3) or (B, H, W, 3), and for tracklets their lengths (B,), ->
            logits or features; free of anything torch.export cannot record.
        reference: The same by the functions of the evaluation, with which it is compared.
        smallest: Least (T, H, W) or (H, W) that it takes.
    """

    network: nn.Module
    reference: Callable[..., Tensor]
    smallest: tuple[int, ...]


class PixelNetwork(nn.Module):
    """Network of bytes: crop of the centre, (x / 255 - mean) / std, network.

    Of d pixels that are left over along a side, floor((d + 1) / 2) are cut off before the crop as
    for videos (``up``), or d / 2 rounded to the nearest, of two the even number, as torchvision
    does (``even``).

    Args:
        network: (B, 3, T, H, W) or (B, 3, H, W) -> logits.
        statistics: Mean and standard deviation of its input, for values in [0, 1].
        crop: Height and width of the crop; None for none.
        rule: Where it lies.

    Shapes: uint8 (B, T, H, W, 3) or (B, H, W, 3) -> as the network.
    """

    def __init__(
        self,
        network: nn.Module,
        statistics: Statistics,
        crop: tuple[int, int] | None = None,
        rule: CropRule = "up",
    ) -> None:
        super().__init__()
        self.network, self.statistics = network, statistics
        self.crop, self.rule = crop, rule

    def forward(self, pixels: Tensor) -> Tensor:
        if self.crop is not None:
            for axis, side in zip((-3, -2), self.crop, strict=True):
                place = torch.arange(side) + self._start(pixels.shape[axis] - side)
                pixels = pixels.index_select(axis, place.to(pixels.device))
        clips = pixels if pixels.ndim == 5 else pixels[:, None]
        values = normalise(clips, *self.statistics)
        return self.network(values if pixels.ndim == 5 else values.squeeze(2))  # type: ignore[no-any-return]

    def _start(self, left: int) -> int:
        return (left + 1) // 2 if self.rule == "up" else (left + left % 4 // 3) // 2


def to_pixels(values: Tensor, statistics: Statistics) -> Tensor:
    """Invert the normalisation exactly: float32 (B, 3, ...) -> uint8 (B, ..., 3)."""
    mean, std = (torch.tensor(part, device=values.device) for part in statistics)
    return (255 * (values.movedim(1, -1) * std + mean)).round().clamp(0, 255).to(torch.uint8)
