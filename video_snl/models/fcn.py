"""ResNet-50 of images, and segmentation: a fully convolutional head on a dilated one.

The network of segmentation has mmsegmentation's layout.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "AUXILIARY_WEIGHT",
    "FCN",
    "ConvNorm",
    "DilatedResNet",
    "FCNHead",
    "SegmentationLogits",
    "Stages",
    "resnet50",
    "resnet50_cifar",
    "segmentation_loss",
]

AUXILIARY_WEIGHT = 0.4


def resnet50(num_classes: int, dropout: float = 0.0) -> nn.Module:
    """Build torchvision's ResNet-50 (arXiv:1512.03385; stride on the 3x3) with a dropout.

    Shapes: (B, 3, H, W) -> (B, num_classes); H, W >= 32 to be of use.
    """
    import torchvision  # takes a second

    network = torchvision.models.resnet50(num_classes=num_classes)
    network.avgpool = nn.Sequential(network.avgpool, nn.Dropout(dropout))
    return network


def resnet50_cifar(num_classes: int, dropout: float = 0.0) -> nn.Module:
    """Build :func:`resnet50` with a 3x3 stem of stride 1 and no max-pool, for 32 x 32 images.

    23,520,842 parameters with 10 classes, 23,705,252 with 100.
    """
    network = resnet50(num_classes, dropout)
    stem = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    if not stem.weight.is_meta:
        nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
    network.conv1 = stem
    network.maxpool = nn.Identity()
    return network


class Stages(NamedTuple):
    """Outputs of the last two stages: (B, 1024, H / 8, W / 8) and (B, 2048, H / 8, W / 8)."""

    third: Tensor
    fourth: Tensor


class DilatedResNet(nn.Module):
    """ResNet50-V1c of output stride 8: three 3x3 convolutions as stem, dilated last two stages.

    Stages 3 and 4 have stride 1 and dilations 2 and 4; the first block of each keeps the dilation
    of the stage before. Names are mmsegmentation's (``stem``, ``layer1`` ... ``layer4``); those of
    torchvision's ResNet-50 fit all but the stem.

    Shapes: (B, 3, H, W) -> :class:`Stages`.
    """

    def __init__(self) -> None:
        super().__init__()
        import torchvision  # takes a second

        plain = torchvision.models.resnet50(
            num_classes=1, replace_stride_with_dilation=[False, True, True]
        )
        self.stem = nn.Sequential(*_convolved(3, 32, 2), *_convolved(32, 32), *_convolved(32, 64))
        self.maxpool = plain.maxpool
        self.layer1, self.layer2 = plain.layer1, plain.layer2
        self.layer3, self.layer4 = plain.layer3, plain.layer4

    def forward(self, x: Tensor) -> Stages:
        x = self.layer2(self.layer1(self.maxpool(self.stem(x))))
        third = self.layer3(x)
        return Stages(third, self.layer4(third))


def _convolved(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    if not convolution.weight.is_meta:
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


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
