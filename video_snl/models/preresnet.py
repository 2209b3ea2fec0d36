"""Pre-activation ResNets for 32 x 32 images: of the paper that has them, and as released."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from video_snl.models.reference_preresnet import (
    PreActBasic,
    PreActBottleneck,
    PreActUnit,
    PreResNet,
)

__all__ = ["TextbookPreResNet", "TextbookUnit", "released_preresnet", "textbook_preresnet"]


class TextbookUnit(PreActBasic):
    """X + conv2(relu(bn2(conv1(P)))), P = relu(bn1(X)), both 3x3 (He et al., arXiv:1603.05027).

    In the first unit of a stage the shortcut starts behind the first activation, too: P, or where
    the shape changes a 1x1 convolution of P (the appendix there; shortcuts of type B).

    Args:
        in_channels, width: channels of X and of the output.
        stride: of the first convolution and the shortcut.
        first: this unit is the first of its stage.

    Shapes: (B, in_channels, H, W) -> (B, width, H / stride, W / stride).
    """

    def __init__(
        self, in_channels: int, width: int, stride: int = 1, *, first: bool = False
    ) -> None:
        super().__init__(in_channels, width, stride)
        self.first = first
        self.downsample = None
        if stride != 1 or in_channels != width:
            self.downsample = nn.Sequential(nn.Conv2d(in_channels, width, 1, stride, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        activated = F.relu(self.bn1(x))
        out = self.conv2(F.relu(self.bn2(self.conv1(activated))))
        shortcut = activated if self.first else x
        return out + (shortcut if self.downsample is None else self.downsample(shortcut))


class TextbookPreResNet(nn.Module):
    """The pre-activation ResNet of 6 ``units`` + 2 layers for CIFAR (arXiv:1603.05027).

    3x3 stem, three stages of basic units with 16, 32 and 64 channels, BatchNorm, ReLU, mean over
    all positions, classifier. 861,428 parameters with 9 units a stage and 100 classes.

    Shapes: (B, 3, H, W) -> (B, num_classes); H, W >= 4.
    """

    def __init__(self, units: int, num_classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.layer1 = _stage(units, 16, 16, 1)
        self.layer2 = _stage(units, 16, 32, 2)
        self.layer3 = _stage(units, 32, 64, 2)
        self.bn = nn.BatchNorm2d(64)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(64, num_classes)
        start_as_he(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.conv(x))))
        return self.fc(self.dropout(F.relu(self.bn(x)).mean((2, 3))))


def _stage(units: int, in_channels: int, width: int, stride: int) -> nn.Sequential:
    others = [TextbookUnit(width, width) for _ in range(units - 1)]
    return nn.Sequential(TextbookUnit(in_channels, width, stride, first=True), *others)


def textbook_preresnet(units: int, num_classes: int, dropout: float) -> nn.Module:
    """:class:`TextbookPreResNet`."""
    return TextbookPreResNet(units, num_classes, dropout)


def released_preresnet(unit: PreActUnit, units: int, num_classes: int, dropout: float) -> nn.Module:
    """The released variant, for images of any size, with a dropout of any probability.

    ``preresnet56_snl`` has nine bottlenecks a stage and a 1x1 convolution behind them: 84 layers
    with weights, and 958,708 parameters with 100 classes.

    Shapes: (B, 3, H, W) -> (B, num_classes); H, W >= 4.
    """
    network = PreResNet(unit, units, num_classes)
    # The released one pools 8 x 8: all positions, for 32 x 32 images.
    network.avgpool = nn.AdaptiveAvgPool2d(1)  # type: ignore[assignment]
    network.dropout = nn.Dropout(dropout)
    start_as_he(network)
    return network


def start_as_he(network: nn.Module) -> None:
    """Convolutions start as in arXiv:1502.01852, scaled by their outputs."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                torch.nn.init.zeros_(module.bias)


BASIC, BOTTLENECK = PreActBasic, PreActBottleneck
