"""Pre-activation ResNets for 32 x 32 images: of the paper that has them, and as released.

``preresnet20`` and ``preresnet56`` are those of He et al. (arXiv:1603.05027). The networks
``preresnet*_snl`` are those of the code that the authors of the spectral nonlocal block released,
here for images of any size and with dropout of any probability.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "PreActBasic",
    "PreActBottleneck",
    "PreActUnit",
    "PreResNet",
    "TextbookPreResNet",
    "TextbookUnit",
    "preresnet20",
    "preresnet20_snl",
    "preresnet56",
    "preresnet56_snl",
    "preresnet110_snl",
]


def preresnet20(num_classes: int, dropout: float = 0.0) -> nn.Module:
    """Build the textbook's network of 20 layers: 272,282 parameters with 10 classes."""
    return TextbookPreResNet(3, num_classes, dropout)


def preresnet56(num_classes: int, dropout: float = 0.0) -> nn.Module:
    """Build the textbook's network of 56 layers: 861,428 parameters with 100 classes."""
    return TextbookPreResNet(9, num_classes, dropout)


def preresnet20_snl(num_classes: int, dropout: float = 0.0) -> nn.Module:
    """Build the released network of basic units: 276,698 parameters with 10 classes."""
    return _released(PreActBasic, 3, num_classes, dropout)


def preresnet56_snl(num_classes: int, dropout: float = 0.0) -> nn.Module:
    """Build the released network of nine bottlenecks a stage.

    With the 1x1 convolution after them it has 84 layers with weights, and 958,708 parameters with
    100 classes.
    """
    return _released(PreActBottleneck, 9, num_classes, dropout)


def preresnet110_snl(num_classes: int, dropout: float = 0.0) -> nn.Module:
    """Build the released network of 18 bottlenecks a stage: 1,793,332 parameters, 100 classes."""
    return _released(PreActBottleneck, 18, num_classes, dropout)


def _released(unit: PreActUnit, units: int, num_classes: int, dropout: float) -> nn.Module:
    network = PreResNet(unit, units, num_classes, dropout=dropout, pool_size=None)
    _start_as_he(network)
    return network


class PreActBasic(nn.Module):
    """X + conv2(relu(bn2(conv1(relu(bn1(X)))))), both 3x3 (arXiv:1603.05027).

    Where the shape changes X goes through a 1x1 convolution and a BatchNorm.
    """

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.downsample = _shortcut(in_channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(F.relu(self.bn1(x)))
        out = self.conv2(F.relu(self.bn2(out)))
        return out + (x if self.downsample is None else self.downsample(x))


class PreActBottleneck(nn.Module):
    """Bottleneck in the order of :class:`PreActBasic`: 1x1, 3x3, 1x1 to 4 ``width`` channels."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        out_channels = self.expansion * width
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.downsample = _shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(F.relu(self.bn1(x)))
        out = self.conv2(F.relu(self.bn2(out)))
        out = self.conv3(F.relu(self.bn3(out)))
        return out + (x if self.downsample is None else self.downsample(x))


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and in_channels == out_channels:
        return None
    projection = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
    return nn.Sequential(projection, nn.BatchNorm2d(out_channels))


PreActUnit = type[PreActBasic] | type[PreActBottleneck]


class TextbookUnit(PreActBasic):
    """X + conv2(relu(bn2(conv1(P)))), P = relu(bn1(X)), both 3x3 (He et al., arXiv:1603.05027).

    In the first unit of a stage the shortcut starts after the first activation, too: P, or where
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
        _start_as_he(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.conv(x))))
        return self.fc(self.dropout(F.relu(self.bn(x)).mean((2, 3))))


def _stage(units: int, in_channels: int, width: int, stride: int) -> nn.Sequential:
    others = [TextbookUnit(width, width) for _ in range(units - 1)]
    return nn.Sequential(TextbookUnit(in_channels, width, stride, first=True), *others)


class PreResNet(nn.Module):
    """The released pre-activation network for CIFAR: three layers of ``depth`` residual units.

    Unlike that of arXiv:1603.05027 it has a 1x1 convolution ``fc1`` and a dropout after the last
    unit, and a BatchNorm on the shortcuts.

    Args:
        pool_size: Side of the average pooling, 8 in the released code; None for all positions.

    Shapes:
        (B, 3, H, W) -> (B, num_classes), where H and W are 4 ``pool_size``, or at least 4.
    """

    def __init__(
        self,
        unit: PreActUnit,
        depth: int,
        num_classes: int = 1000,
        *,
        dropout: float = 0.5,
        pool_size: int | None = 8,
    ) -> None:
        super().__init__()
        wide = unit.expansion
        self.conv = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.layer1 = _layer(unit, 16, 16, depth, stride=1)
        self.layer2 = _layer(unit, 16 * wide, 32, depth, stride=2)
        self.layer3 = _layer(unit, 32 * wide, 64, depth, stride=2)
        self.bn1 = nn.BatchNorm2d(64 * wide)
        self.fc1 = nn.Conv2d(64 * wide, 64 * wide, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(64 * wide)
        self.avgpool: nn.Module = nn.AdaptiveAvgPool2d(1)
        if pool_size is not None:
            self.avgpool = nn.AvgPool2d(pool_size, stride=1)
        self.dropout = nn.Dropout(dropout)
        self.fc2 = nn.Linear(64 * wide, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.conv(x))))
        x = self.fc1(F.relu(self.bn1(x)))
        x = self.avgpool(F.relu(self.bn2(x)))
        return self.fc2(self.dropout(x.flatten(1)))


def _layer(
    unit: PreActUnit,
    in_channels: int,
    width: int,
    depth: int,
    stride: int,
) -> nn.Sequential:
    out_channels = unit.expansion * width
    others = [unit(out_channels, width) for _ in range(depth - 1)]
    return nn.Sequential(unit(in_channels, width, stride), *others)


def _start_as_he(network: nn.Module) -> None:
    """Draw the weights of convolutions as in arXiv:1502.01852, scaled by their outputs."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
