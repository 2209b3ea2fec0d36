"""Segmentation: a fully convolutional head on a dilated ResNet, in mmsegmentation's layout."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from video_snl.models.resnet import DilatedResNet

__all__ = [
    "AUXILIARY_WEIGHT",
    "FCN",
    "ConvNorm",
    "FCNHead",
    "SegmentationLogits",
    "segmentation_loss",
]

AUXILIARY_WEIGHT = 0.4


class ConvNorm(nn.Module):
    """relu(bn(conv(X))), 3x3, same size. Shapes: (B, inputs, H, W) -> (B, outputs, H, W)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        if not self.conv.weight.is_meta:
            nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class FCNHead(nn.Module):
    """Convolutions, and a classifier of every position (Long et al., arXiv:1411.4038).

    Args:
        inputs: channels of the feature map.
        channels: channels of the convolutions.
        num_classes: classes of a position.
        num_convs: number of convolutions.
        concat_input: add one more convolution, of the feature map and their output together.
        dropout: probability of dropping a channel before the classifier.

    Shapes: (B, inputs, H, W) -> (B, num_classes, H, W).
    """

    def __init__(
        self,
        inputs: int,
        channels: int,
        num_classes: int,
        *,
        num_convs: int,
        concat_input: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        sizes = [inputs] + [channels] * num_convs
        self.convs = nn.Sequential(*map(ConvNorm, sizes[:-1], sizes[1:]))
        self.conv_cat = ConvNorm(inputs + channels, channels) if concat_input else None
        self.dropout = nn.Dropout2d(dropout)
        self.conv_seg = nn.Conv2d(channels, num_classes, 1)
        if not self.conv_seg.weight.is_meta:
            nn.init.normal_(self.conv_seg.weight, std=0.01)
            nn.init.zeros_(self.conv_seg.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        out = self.convs(x)
        if self.conv_cat is not None:
            out = self.conv_cat(torch.cat([x, out], 1))
        return self.conv_seg(self.dropout(out))


class SegmentationLogits(NamedTuple):
    """Outputs of the head and of the auxiliary head, each (B, num_classes, H, W)."""

    logits: Tensor
    auxiliary: Tensor


class FCN(nn.Module):
    """ResNet50-V1c-D8 with an FCN head, and in training an auxiliary one on its third stage.

    The paper's network of Cityscapes: its block stands between the two convolutions of
    ``decode_head``, at 512 channels. 47,133,043 parameters with 19 classes, and 2,364,691 of the
    auxiliary head.

    Shapes:
        (B, 3, H, W) -> (B, num_classes, H, W), bilinearly from H / 8 x W / 8; in training mode
        :class:`SegmentationLogits`.
    """

    def __init__(self, num_classes: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.backbone = DilatedResNet()
        self.decode_head = FCNHead(
            2048, 512, num_classes, num_convs=2, concat_input=True, dropout=dropout
        )
        self.auxiliary_head = FCNHead(
            1024, 256, num_classes, num_convs=1, concat_input=False, dropout=dropout
        )

    def forward(self, x: Tensor) -> Tensor | SegmentationLogits:
        stages, size = self.backbone(x), (x.shape[2], x.shape[3])
        logits = _resized(self.decode_head(stages.fourth), size)
        if not self.training:
            return logits
        return SegmentationLogits(logits, _resized(self.auxiliary_head(stages.third), size))


def _resized(logits: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


def segmentation_loss(
    output: Tensor | SegmentationLogits, labels: Tensor, ignored: int = 255
) -> Tensor:
    """Return the mean cross-entropy over labelled pixels, plus 0.4 times the auxiliary head's.

    Zero where no pixel has a label.

    Shapes: logits (B, classes, H, W), labels (B, H, W) of class numbers or ``ignored`` -> ().
    """
    if isinstance(output, SegmentationLogits):
        auxiliary = segmentation_loss(output.auxiliary, labels, ignored)
        return segmentation_loss(output.logits, labels, ignored) + AUXILIARY_WEIGHT * auxiliary
    total = F.cross_entropy(output.float(), labels, ignore_index=ignored, reduction="sum")
    return total / (labels != ignored).sum().clamp(min=1)
